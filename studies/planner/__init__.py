"""From wishes to settings: accuracy curves, the search over gain and light, what a proof takes."""
