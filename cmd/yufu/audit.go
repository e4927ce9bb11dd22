package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/adminclient"
)

type auditCmd struct {
	List   auditListCmd   `cmd:"" help:"Find events, the newest first."`
	Export auditExportCmd `cmd:"" help:"Print all events that match as NDJSON, the newest first."`
}

// Help is shown below the usage line of yufu audit --help.
func (auditCmd) Help() string {
	return "These commands use the admin API of a running service, with a service key of scope audit or admin that is not restricted to apps."
}

// auditFlags are the filters of the audit log. Filters that are given must all match.
type auditFlags struct {
	Since     *time.Duration `placeholder:"DURATION" help:"Only events of this time until now, for example 1h."`
	From      time.Time      `placeholder:"TIME" help:"Only events at this time or later, for example 2026-01-31T08:00:00+08:00."`
	Until     time.Time      `placeholder:"TIME" help:"Only events before this time."`
	Action    *string        `placeholder:"ACTION" help:"Only this action, for example revoked."`
	Actor     *string        `placeholder:"ACTOR" help:"Only by this actor: bearer, cli, service or service_key:ID."`
	App       *string        `placeholder:"APPID" help:"Only about this app."`
	UUID      *uuid.UUID     `name:"uuid" placeholder:"UUID" help:"Only about this user."`
	Session   *uuid.UUID     `placeholder:"ID" help:"Only about this session."`
	Person    *uuid.UUID     `placeholder:"ID" help:"Only about this person."`
	RequestID *string        `placeholder:"ID" help:"Only of the request with this X-Request-Id."`
	adminFlags
}

// checkArgs implements [argsChecker].
func (f *auditFlags) checkArgs() error {
	if f.Since != nil && (*f.Since <= 0 || !f.From.IsZero()) {
		return errors.New("--since must be longer than 0, and not together with --from")
	}
	return nil
}

// open returns the client of the admin API, and the query with pages of a size.
func (f *auditFlags) open(std streams, limit int) (*adminclient.Client, adminclient.AuditQuery, error) {
	q := adminclient.AuditQuery{
		From: f.From, Until: f.Until, Action: f.Action, Actor: f.Actor, App: f.App, RequestID: f.RequestID,
		UUID: f.UUID, Session: f.Session, Person: f.Person, Page: adminclient.Page{Limit: limit},
	}
	if f.Since != nil {
		q.From = time.Now().Add(-*f.Since)
	}
	client, err := f.client(std)
	return client, q, err
}

type auditListCmd struct {
	auditFlags
	Limit int  `default:"50" min:"1" max:"1000" placeholder:"N" help:"Number of events to list."`
	JSON  bool `name:"json" help:"Print NDJSON instead of a table."`
}

// Run lists events.
func (c *auditListCmd) Run(ctx context.Context, std streams) error {
	client, q, err := c.open(std, c.Limit)
	if err != nil {
		return err
	}
	found, err := client.ListAudit(ctx, q)
	if err != nil {
		return c.explain(err)
	}
	show := printEvents
	if c.JSON {
		show = printEventLines
	}
	if err := show(std, found.Events...); err != nil {
		return err
	}
	if found.Next != nil {
		fmt.Fprintln(std.err, "More events match. To see them, raise --limit, narrow the filters or use yufu audit export.")
	}
	return nil
}

// printEventLines prints events as NDJSON.
func printEventLines(std streams, events ...adminclient.AuditEvent) error {
	e := json.NewEncoder(std.out)
	e.SetEscapeHTML(false)
	for i := range events {
		if err := e.Encode(&events[i]); err != nil {
			return err
		}
	}
	return nil
}

// printEvents prints events as a table.
func printEvents(std streams, events ...adminclient.AuditEvent) error {
	w := tabwriter.NewWriter(std.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "TIME\tACTION\tACTOR\tABOUT\tREASON\tDETAIL")
	for i := range events {
		e := &events[i]
		var about []string
		if e.App != nil {
			about = append(about, "app="+*e.App)
		}
		for name, id := range map[string]*uuid.UUID{"uuid": e.UUID, "session": e.Session, "person": e.Person} {
			if id != nil {
				about = append(about, name+"="+id.String())
			}
		}
		slices.Sort(about)
		detail := ""
		if len(e.Detail) > 0 {
			j, err := json.Marshal(e.Detail)
			if err != nil {
				return err
			}
			detail = string(j)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", e.At.UTC().Format("2006-01-02T15:04:05.000Z"), e.Action, e.Actor,
			cmp.Or(strings.Join(about, " "), "-"), cmp.Or(e.Reason, "-"), cmp.Or(detail, "-"))
	}
	return w.Flush()
}

type auditExportCmd struct {
	auditFlags
}

// Run prints all events.
func (c *auditExportCmd) Run(ctx context.Context, std streams) error {
	client, q, err := c.open(std, exportPage)
	if err != nil {
		return err
	}
	for e, err := range client.Audit(ctx, q) {
		if err != nil {
			return c.explain(err)
		}
		if err := printEventLines(std, e); err != nil {
			return err
		}
	}
	return nil
}

// exportPage is the number of events that an export reads at a time.
const exportPage = 1000
