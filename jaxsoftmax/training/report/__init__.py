"""What a person looks at: scores, pictures, and the lines of a run while it goes on."""
