"""UW imapd and ipop3d log parser for pop-before-smtp."""
