package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ipalloc/ipalloc/store"
)

// parked is a connection on which an ask was answered. Its transaction is open, but has no locks and no snapshot: the
// next turn goes on in it, which saves the round trip that would end it.
type parked struct {
	conn  *pgxpool.Conn
	timer *time.Timer
}

// parkTime is how long a connection is parked at most. Who asks again mostly does so at once.
const parkTime = 10 * time.Millisecond

// park parks the turn's connection.
func (t *turn) park() {
	s := t.store
	s.parking <- &parked{t.conn, time.AfterFunc(parkTime, func() { s.unpark() })}
	t.conn = nil
	if s.isClosed() {
		s.unpark()
	}
}

// unpark ends the transaction of the connection that is parked for the longest time. It reports false if there is none.
func (s *Store) unpark() bool {
	select {
	case p := <-s.parking:
		s.rollback(p.leave())
		return true
	default:
		return false
	}
}

// leave returns the connection of one that was taken out.
func (p *parked) leave() *pgxpool.Conn {
	p.timer.Stop() // if it is too late for that, another one is parked less long
	return p.conn
}

// rollback ends the transaction of a turn, and gives the connection back.
func (s *Store) rollback(conn *pgxpool.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), store.MaxTurn)
	defer cancel()
	_, _ = conn.Exec(ctx, "ROLLBACK") // if that fails, the pool closes the connection, which does the same
	s.release(conn)
}

// release gives the connection of a turn back.
func (s *Store) release(conn *pgxpool.Conn) {
	conn.Release()
	<-s.locking
}
