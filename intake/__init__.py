"""Where stations hand in their files: FTP, FTPS and SFTP, one jailed account a station, complete files only into the inbox."""
