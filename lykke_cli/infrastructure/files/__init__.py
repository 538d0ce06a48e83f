"""What is kept on this machine: places, output files, the recently seen. No configuration."""
