package postgres

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// historyParts identify a timeline of the cutoffs' ids ([cutoffs.Batch]). All but the
// start of the server identify a history for recording ([session.History]):
//   - the cluster
//   - the timeline of its write-ahead log, which a promotion raises
//   - the start of the server, without which no files can be restored
//   - the database
//   - the table's file, which a restore creates again
//
// Each has a name that an operator knows.
var historyParts = []struct{ name, sql string }{
	{"pg_control_system()", `(select system_identifier from pg_control_system())`},
	{"pg_current_wal_lsn()", `left(pg_walfile_name(pg_current_wal_lsn()), 8)`},
	{startPart, `extract(epoch from pg_postmaster_start_time())`},
	{"pg_database", `(select oid from pg_database where datname = current_database())`},
	{"pg_relation_filenode()", `pg_relation_filenode('public.cutoffs')`},
}

// startPart is the only part that changes when the server restarts.
const startPart = "pg_postmaster_start_time()"

// timelineQueries are the queries that read cutoffs and name their timeline.
type timelineQueries struct {
	// query reads cutoffs and the timeline's name; name reads only the name.
	query, name string
	// without lists the parts that this server does not let the role read.
	without []string
}

// fullTimeline names the timeline with all its parts.
var fullTimeline = &timelineQueries{query: statement(cutoffsSQL(nil)), name: statement(timelineSQL(nil))}

// timelineName returns SQL for the name of the timeline without the given parts.
func timelineName(without []string) string {
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

// timelineSQL reads the timeline's name. It is null on a server that rejects writes.
func timelineSQL(without []string) string {
	return `select case when ` + writable + ` then ` + timelineName(without) + ` end`
}

// cutoffsSQL reads cutoffs and the name of their timeline without the given parts. It
// returns at least one row, whose timeline is null on a server that rejects writes.
//
// It writes the mark, so its commit waits for the synchronous standby: an answer proves
// that no other server had taken over before the query.
//
// The first row has the other columns of the answer, so that a page of thousands of
// cutoffs does not repeat them. The cutoffs are in the order of the inner select: there is
// one row to join them with. A sort of the whole answer would take as long as reading it.
//
// The sequence gives the greatest id that was ever committed, even if its row has been
// deleted. A role that may not read the sequence gets the greatest id of the rows.
func cutoffsSQL(without []string) string {
	return `
select case when c.id > t.first then null else t.timeline end, case when c.id > t.first then null else t.deployment end,
  case when c.id > t.first then null else clock_timestamp() end, case when c.id > t.first then null else t.last end,
  case when c.id > t.first then null else t.keys end, case when c.id > t.first then null else t.apps end,
  c.id, c.kind, c.session_id, c.ver, coalesce(c.appid, c.session_appid), c.epoch, c.kid, c.expires_at
from (
  select
    case when not (` + writable + `) then null
      when ` + mark + ` = 1 then
      ` + timelineName(without) + `
    end as timeline,
    (select min(id) from cutoffs where id > $1) as first,
    (select id from deployment) as deployment,
    (` + keysVersion + `) as keys,
    (` + appsVersion + `) as apps,
    greatest((select max(id) from cutoffs),
      case when has_sequence_privilege(q.sequence, 'usage, select') then coalesce(pg_sequence_last_value(q.sequence), 0)
      else $1 end) as last
  from (select pg_get_serial_sequence('public.cutoffs', 'id')::regclass as sequence) q
) t
left join lateral (
  select id, kind, session_id, session_appid, ver, appid, epoch, kid, expires_at
  from cutoffs where id > $1 order by id limit $2
) c on t.timeline is not null`
}

const writable = `not (pg_is_in_recovery() or current_setting('transaction_read_only')::bool)`

// refusesPart reports whether the server refused to evaluate an expression, because the
// role may not or because this kind of server cannot. Managed servers refuse functions
// of the write-ahead log (Amazon Aurora with 55000), hardened ones with 42501.
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

// readableTimeline finds the parts that this server lets the role read. The server must
// accept writes: a standby refuses some parts for another reason.
func (s *Store) readableTimeline(ctx context.Context) (*timelineQueries, error) {
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
	return &timelineQueries{cutoffsSQL(without), timelineSQL(without), without}, nil
}

// HistoryWithout lists the parts of a history or timeline that PostgreSQL does not let
// this role read, as far as [Store.Cutoffs] has found them.
func (s *Store) HistoryWithout() []string { return s.timeline.Load().without }
