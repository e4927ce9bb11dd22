package postgres

import (
	"cmp"
	"context"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// known describes the server that the newest connection led to.
type known struct {
	sync.Mutex
	deployment string
	// name is the name of the timeline, as read by h.
	h    *timelineQueries
	name string
}

// recognise refuses a new connection to another deployment. If the connection leads to
// another timeline than the one before, older connections may lead to a replaced server,
// so all connections are made again. This happens once, because the new connections
// find the known timeline.
//
// It also reads what kind of tables the database has. Without a deployment, as before the migration or if the role may not read it, none is
// compared. A server that rejects writes has no timeline.
func (s *Store) recognise(ctx context.Context, conn *pgx.Conn) error {
	bounded, cancel := context.WithTimeout(ctx, conn.Config().ConnectTimeout)
	defer cancel()
	h := s.timeline.Load()
	results, err := conn.PgConn().Exec(bounded, tableKindSQL+`; `+deploymentSQL+`; `+h.name).ReadAll()
	if err != nil && !refusesPart(err) {
		return fmt.Errorf("read the database's deployment and timeline: %w", err)
	}
	var found [3]string
	for i, r := range results {
		if r.Err == nil && len(r.Rows) == 1 {
			found[i] = string(r.Rows[0][0])
		}
	}
	tables, deployment, name := tableKind(found[0]), found[1], found[2]
	k := &s.known
	k.Lock()
	defer k.Unlock()
	if k.deployment == "" {
		k.deployment = deployment
	}
	if k.deployment != deployment {
		return &auth.Error{Code: auth.StorageUnavailable, Err: fmt.Errorf(
			"postgres: the database belongs to another deployment (%s) than at the first connection of this process (%s): correct the database's name or address, or restart the process if it should use this database",
			cmp.Or(deployment, "unknown"), k.deployment)}
	}
	s.tables.Store(&tables)
	if name == "" {
		return nil
	}
	moved := k.h == h && k.name != name
	k.h, k.name = h, name
	if moved {
		s.reset()
	}
	return nil
}
