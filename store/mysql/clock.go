package mysql

import "time"

// now is the time by which this package measures how long something takes in the server. It has no part in what is
// stored.
func now() time.Time { return time.Now() } //nolint:forbidigo // the server's clock runs whatever the caller's says
