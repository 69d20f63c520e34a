"""``python -m jaxsoftmax``."""

from jaxsoftmax.cli import main

if __name__ == "__main__":
    main()
