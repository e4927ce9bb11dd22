package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/cmd/yufu/internal/personimport"
	"github.com/yufu-auth/yufu/pkg/adminclient"
	"github.com/yufu-auth/yufu/pkg/auth"
)

type personCmd struct {
	Import  personImportCmd  `cmd:"" help:"Create and update persons from a file."`
	List    personListCmd    `cmd:"" help:"Find persons."`
	Disable personDisableCmd `cmd:"" help:"Disable a person, and end the sessions of all users who are bound to the person."`
	Enable  personEnableCmd  `cmd:"" help:"Enable a person again. Ended sessions stay ended."`
}

// Help is shown below the usage line of yufu person --help.
func (personCmd) Help() string {
	return "These commands use the admin API of a running service. The service key needs the scope persons for import, read for list, and support for disable and enable; admin includes all of them."
}

// persons finds persons.
func (f adminFlags) persons(ctx context.Context, client *adminclient.Client, q adminclient.PersonQuery) (*adminclient.PersonList, error) {
	found, err := client.ListPersons(ctx, q)
	return found, f.explain(err)
}

type personImportCmd struct {
	File     string `arg:"" name:"file" help:"File to import, .csv or .ndjson, or - for standard input."`
	Format   string `enum:"csv,ndjson,auto" default:"auto" placeholder:"FORMAT" help:"Format of the file: csv, ndjson, or auto to take it from the file's name."`
	DryRun   bool   `help:"Check each row, and write nothing. Two distant rows with the same phone are found only by a real import."`
	Report   string `placeholder:"FILE" help:"File for the report of refused rows, with their lines; an existing file is replaced. Without this flag, FILE.errors.csv beside the file."`
	FromLine int    `default:"1" placeholder:"N" help:"First line to import, to continue an import that was interrupted."`
	reasonFlag
	adminFlags
}

// Help is shown below the usage line of yufu person import --help.
func (personImportCmd) Help() string {
	return `A CSV file is UTF-8 with commas; its first line names the columns: external_id (required), name, phone, fact.NAME for facts that users are asked for when they bind, and attr.NAME for attributes. An empty cell changes nothing. A line of an NDJSON file is a body of POST /admin/v1/persons; null removes a fact, and an empty phone removes the phone.

A person with a known external_id is updated. You can repeat an import. A refused row is reported, and the other rows are imported.

Exit codes: 0 when all rows were imported, 1 when some were refused or the import was interrupted, 2 when the command line or the file is wrong.`
}

// Run imports the file.
func (c *personImportCmd) Run(ctx context.Context, std streams) error {
	client, err := c.client(std)
	if err != nil {
		return err
	}
	in, size, err := c.open(std)
	if err != nil {
		return wrongUsage(err)
	}
	defer in.Close() //nolint:errcheck // it was only read
	src, err := c.source(in)
	if err != nil {
		return wrongUsage(fmt.Errorf("%s: %w", c.File, err))
	}
	report, err := c.report()
	if err != nil {
		return wrongUsage(err)
	}
	meter := personimport.NewMeter(std.err, size, time.Now)
	i := personimport.Importer{Send: c.sender(client), Progress: meter, Report: report, Sleep: sleep}
	sum, err := i.Run(ctx, src, c.FromLine)
	err = errors.Join(err, report.Close())
	c.print(std.out, &sum, meter.Elapsed())
	switch {
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("interrupted; to continue: yufu person import %s --from-line %d (or import the whole file again)", c.File, sum.Next)
	case err != nil:
		return fmt.Errorf("the import was interrupted: %w\nto continue: yufu person import %s --from-line %d (or import the whole file again)", err, c.File, sum.Next)
	case sum.Refused > 0:
		rows := "rows were"
		if sum.Refused == 1 {
			rows = "row was"
		}
		return fmt.Errorf("%s %s refused; for the reasons, see %s", personimport.Group(sum.Refused), rows, c.reportPath())
	}
	return nil
}

// print prints the outcomes of the rows.
func (c *personImportCmd) print(w io.Writer, sum *personimport.Summary, took time.Duration) {
	what := [...]string{"created", "updated", "unchanged", "refused"}
	if c.DryRun {
		what = [...]string{"would be created", "would be updated", "unchanged", "refused"}
	}
	rate := int(float64(sum.Rows()) / max(took.Seconds(), 0.001))
	fmt.Fprintf(w, "%s: %s %s, %s %s, %s %s, %s %s, in %s (%s rows/s).\n", c.File,
		personimport.Group(sum.Created), what[0], personimport.Group(sum.Updated), what[1],
		personimport.Group(sum.Unchanged), what[2], personimport.Group(sum.Refused), what[3],
		took.Round(100*time.Millisecond), personimport.Group(rate))
	if c.DryRun {
		fmt.Fprintln(w, "Nothing was written.")
	}
}

// open opens the file and returns its size, or 0 if the size is unknown.
func (c *personImportCmd) open(std streams) (io.ReadCloser, int64, error) {
	if c.File == "-" {
		return io.NopCloser(std.in), 0, nil
	}
	f, err := os.Open(c.File)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, 0, errors.Join(err, f.Close())
	case info.IsDir():
		return nil, 0, errors.Join(fmt.Errorf("%s is a directory, want a file", c.File), f.Close())
	case !info.Mode().IsRegular():
		return f, 0, nil
	}
	return f, info.Size(), nil
}

// source returns the rows of the file, according to its format.
func (c *personImportCmd) source(r io.Reader) (personimport.Source, error) {
	format := c.Format
	if format == "auto" {
		format = strings.TrimPrefix(strings.ToLower(filepath.Ext(c.File)), ".")
	}
	switch format {
	case "csv":
		return personimport.NewCSV(r)
	case "ndjson", "jsonl":
		return personimport.NewNDJSON(r)
	default:
		return nil, errors.New("the name of the file does not show its format; add --format csv or --format ndjson")
	}
}

func (c *personImportCmd) reportPath() string {
	if c.Report != "" {
		return c.Report
	}
	if c.File == "-" {
		return "person-import.errors.csv"
	}
	return c.File + ".errors.csv"
}

func (c *personImportCmd) report() (*personimport.ReportFile, error) {
	path := c.reportPath()
	file, err := os.Stat(c.File)
	if other, otherErr := os.Stat(path); err == nil && otherErr == nil && os.SameFile(file, other) {
		return nil, errors.New("--report is the file to import; choose another file")
	}
	return personimport.NewReportFile(path)
}

// sender sends batches to the admin API.
func (c *personImportCmd) sender(client *adminclient.Client) personimport.Sender {
	return func(ctx context.Context, batch []byte) (personimport.Result, error) {
		done, err := client.ImportPersons(ctx, bytes.NewReader(batch), adminclient.Import{DryRun: c.DryRun, Reason: c.Reason})
		if err != nil {
			return personimport.Result{}, importFailure(err)
		}
		r := personimport.Result{Created: done.Created, Updated: done.Updated, Unchanged: done.Unchanged}
		for _, e := range done.Errors {
			r.Refused = append(r.Refused, personimport.Refusal{Place: e.Line, Code: string(e.Code), Detail: e.Detail})
		}
		return r, nil
	}
}

// importFailure translates an error of the admin API into one that tells the importer whether
// it may send the batch again.
func importFailure(err error) error {
	var e *adminclient.Error
	if !errors.As(err, &e) {
		return &personimport.RetryError{Err: err}
	}
	switch {
	case e.StatusCode == http.StatusNotFound || e.StatusCode < http.StatusMultipleChoices:
		return errNotAdmin
	case e.StatusCode == http.StatusRequestEntityTooLarge:
		return personimport.ErrTooLarge
	case e.StatusCode == http.StatusTooManyRequests || e.StatusCode >= http.StatusInternalServerError:
		return &personimport.RetryError{Err: err, Wait: e.RetryAfter}
	default:
		return err
	}
}

// sleep waits, or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

type personListCmd struct {
	ExternalID string `placeholder:"ID" help:"Id of the person in your business."`
	Name       string `placeholder:"NAME" help:"Beginning of the name."`
	Phone      string `placeholder:"PHONE" help:"Phone number."`
	Limit      int    `default:"100" min:"1" max:"1000" placeholder:"N" help:"Number of persons to list."`
	adminFlags
}

// Run lists persons. Phones are masked.
func (c *personListCmd) Run(ctx context.Context, std streams) error {
	client, err := c.client(std)
	if err != nil {
		return err
	}
	q := adminclient.PersonQuery{Page: adminclient.Page{Limit: c.Limit}}
	for to, s := range map[**string]*string{&q.ExternalID: &c.ExternalID, &q.Name: &c.Name, &q.Phone: &c.Phone} {
		if *s != "" {
			*to = s
		}
	}
	found, err := c.persons(ctx, client, q)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(std.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tEXTERNAL ID\tNAME\tPHONE\tSTATUS\tFACTS")
	for _, p := range found.Persons {
		status, phone := "enabled", "-"
		if p.Disabled {
			status = "disabled"
		}
		if p.Phone != nil {
			phone = auth.MaskPhone(*p.Phone)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", p.ID, p.ExternalID, cmp.Or(p.Name, "-"), phone, status, cmp.Or(strings.Join(p.Facts, " "), "-"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if found.Next != nil {
		fmt.Fprintln(std.err, "More persons match. To see them, raise --limit or narrow the query.")
	}
	return nil
}

type personDisableCmd struct {
	personToggle
}

// Run disables the person.
func (c *personDisableCmd) Run(ctx context.Context, std streams) error {
	return c.toggle(ctx, std, (*adminclient.Client).DisablePerson, "Disabled %s. The sessions of all users bound to this person have ended.\n")
}

type personEnableCmd struct {
	personToggle
}

// Run enables the person.
func (c *personEnableCmd) Run(ctx context.Context, std streams) error {
	return c.toggle(ctx, std, (*adminclient.Client).EnablePerson, "Enabled %s.\n")
}

// personToggle is embedded by disable and enable.
type personToggle struct {
	ExternalID string `arg:"" name:"external-id" help:"Id of the person in your business."`
	reasonFlag
	adminFlags
}

func (c *personToggle) toggle(ctx context.Context, std streams,
	change func(*adminclient.Client, context.Context, uuid.UUID, string) (*adminclient.Person, error), done string,
) error {
	client, err := c.client(std)
	if err != nil {
		return err
	}
	found, err := c.persons(ctx, client, adminclient.PersonQuery{ExternalID: &c.ExternalID})
	if err != nil {
		return err
	}
	if len(found.Persons) == 0 {
		return errors.New("no person has this external_id; to list persons: yufu person list")
	}
	if _, err := change(client, ctx, found.Persons[0].ID, c.Reason); err != nil {
		return err
	}
	fmt.Fprintf(std.out, done, c.ExternalID)
	return nil
}
