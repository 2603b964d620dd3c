package mysql

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
)

// connector makes connections to servers that take writes.
type connector struct{ driver.Connector }

// Connect implements [driver.Connector].
func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	if err := checkWritable(ctx, conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// checkWritable asks the server whether it is read-only.
func checkWritable(ctx context.Context, conn driver.Conn) error {
	queryer, ok := conn.(driver.QueryerContext)
	if !ok {
		return fmt.Errorf("the driver's connection %T cannot be queried", conn)
	}
	rows, err := queryer.QueryContext(ctx, "SELECT CAST(@@GLOBAL.read_only AS CHAR)", nil)
	if err != nil {
		return err
	}
	defer rows.Close()
	value := make([]driver.Value, 1)
	if err := rows.Next(value); err != nil {
		return err
	}
	if text, ok := value[0].([]byte); !ok || isOn(string(text)) {
		return fmt.Errorf("%w: its variable read_only is %s", ErrReadOnly, value[0])
	}
	return nil
}
