"""One run, from what is asked to what is reported: `request`, `inference`, `report`."""
