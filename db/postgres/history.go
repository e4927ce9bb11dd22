package postgres

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// historyParts are what names a history of the cutoffs' ids: the cluster, its
// timeline, which a promotion raises, the start of the server, without which no
// files can be put back, the database, and the table's file, which a restore
// makes again. Each has the name by which an operator knows it.
var historyParts = []struct{ name, sql string }{
	{"pg_control_system()", `(select system_identifier from pg_control_system())`},
	{"pg_current_wal_lsn()", `left(pg_walfile_name(pg_current_wal_lsn()), 8)`},
	{startPart, `extract(epoch from pg_postmaster_start_time())`},
	{"pg_database", `(select oid from pg_database where datname = current_database())`},
	{"pg_relation_filenode()", `pg_relation_filenode('public.cutoffs')`},
}

// startPart is the part that a restart of the server changes.
const startPart = "pg_postmaster_start_time()"

// history is how the store reads cutoffs and names their history.
type history struct {
	// question reads cutoffs, name the name alone.
	question, name string
	// without lists the parts that this server does not let the role read.
	without []string
}

// fullHistory is the name with all its parts.
var fullHistory = &history{question: statement(cutoffsSQL(nil)), name: statement(historySQL(nil))}

// historyName names the history of the cutoffs' ids without some of its parts.
func historyName(without []string) string {
	var parts []string
	for _, p := range historyParts {
		if slices.Contains(without, p.name) {
			parts = append(parts, `'-'`)
		} else {
			parts = append(parts, p.sql)
		}
	}
	return `left(encode(sha256(convert_to(concat_ws(' ',
        ` + strings.Join(parts, `,
        `) + `), 'UTF8')), 'hex'), 32)`
}

// historySQL names the history. It is null on a server that takes no writes.
func historySQL(without []string) string {
	return `select case when ` + writable + ` then ` + historyName(without) + ` end`
}

// cutoffsSQL reads cutoffs and names the history of their ids, without some of
// its parts. There is one row at least; its timeline is null on a server that
// takes no writes.
//
// It writes the mark, so that its commit waits for the synchronous standby: an
// answer says that no other server had taken over when it was asked.
//
// The sequence tells the greatest id that was ever committed, also when its row
// was deleted since; a role that may not read it does without.
func cutoffsSQL(without []string) string {
	return `
select t.timeline, t.deployment, clock_timestamp(), t.last, c.id, c.kind, c.session_id, c.ver, coalesce(c.appid, c.session_appid), c.epoch, c.kid, c.expires_at
from (
  select
    case when not (` + writable + `) then null
      when ` + mark + ` = 1 then
      ` + historyName(without) + `
    end as timeline,
    (select id from deployment) as deployment,
    greatest((select max(id) from cutoffs),
      case when has_sequence_privilege(q.sequence, 'usage, select') then coalesce(pg_sequence_last_value(q.sequence), 0)
      else $1 end) as last
  from (select pg_get_serial_sequence('public.cutoffs', 'id')::regclass as sequence) q
) t
left join lateral (
  select id, kind, session_id, session_appid, ver, appid, epoch, kid, expires_at
  from cutoffs where id > $1 order by id limit $2
) c on t.timeline is not null
order by c.id`
}

const writable = `not (pg_is_in_recovery() or current_setting('transaction_read_only')::bool)`

// refusesPart reports whether the server refused to evaluate something: the role
// may not, or this kind of server cannot. Managed servers refuse functions of
// the write-ahead log (Amazon Aurora with 55000), hardened ones with 42501.
func refusesPart(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && slices.Contains([]string{
		"42501", // insufficient_privilege
		"42883", // undefined_function
		"42P01", // undefined_table
		"0A000", // feature_not_supported
		"55000", // object_not_in_prerequisite_state
	}, pg.Code)
}

// readableHistory finds out which parts this server lets the role read. It must
// take writes: a standby refuses some of them for another reason.
func (s *Store) readableHistory(ctx context.Context) (*history, error) {
	var without []string
	for _, p := range historyParts {
		var text *string
		err := s.follow.QueryRow(ctx, `select case when `+writable+` then (`+p.sql+`)::text end`).Scan(&text)
		switch {
		case refusesPart(err):
			without = append(without, p.name)
		case err != nil:
			return nil, err
		case text == nil:
			return nil, errReadOnly
		}
	}
	return &history{cutoffsSQL(without), historySQL(without), without}, nil
}

// HistoryWithout lists the parts of the history's name that PostgreSQL does not let
// this role read, as far as [Store.Cutoffs] has found them.
func (s *Store) HistoryWithout() []string { return s.history.Load().without }
