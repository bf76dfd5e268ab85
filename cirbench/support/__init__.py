"""What everything else is built on: files, arrays, tables, the terminal, several processes, optional packages."""
