"""Where the classes are: along an axis of the arrays at hand, or spread over devices."""
