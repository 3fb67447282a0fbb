"""The program `pcrnn`: one command a file."""
