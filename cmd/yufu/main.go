// Command yufu is the whole service in one binary: "yufu serve" in production,
// "yufu dev" on a laptop, and the commands an operator needs beside them.
//
// This package owns the command line and the assembly of the parts: it is the
// only one that knows them all. A file holds a subcommand; what is logic rather
// than wiring is in internal/.
//
// Exit codes: 0 after an orderly end, 1 when something failed, 2 when the
// command line or the environment is wrong.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
	"github.com/yufu-auth/yufu/pkg/telemetry"
)

type cli struct {
	Serve      serveCmd      `cmd:"" help:"Run the service."`
	Dev        devCmd        `cmd:"" help:"Run the service on this machine for trying out, with SQLite and a simulated WeChat."`
	App        appCmd        `cmd:"" help:"Register and change mini-programs."`
	ServiceKey serviceKeyCmd `cmd:"" name:"service-key" help:"Make and revoke the keys of back ends and admins."`
	Person     personCmd     `cmd:"" help:"Import, find, disable and enable persons."`
	Migrate    migrateCmd    `cmd:"" help:"Bring the database schema up to date."`
	Wechatsim  wechatsimCmd  `cmd:"" help:"Run the WeChat simulator alone."`
	Version    versionCmd    `cmd:"" help:"Print the version."`
}

// streams are the program's standard streams, bound for every command.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// After the first signal the second one kills, as one expects of a program
	// that hangs.
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], os.Environ(), streams{os.Stdin, os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}

// run parses the command line and runs the command. It returns the exit code.
// What the command line does not say comes from the process's environment;
// environ is searched for settings that do not exist.
func run(ctx context.Context, args, environ []string, std streams) int {
	var c cli
	exited := -1
	parser, err := kong.New(&c,
		kong.Name("yufu"),
		kong.Description("Yufu signs mini-program users in: a wx.login code becomes a short-lived signed token and a refresh token that survives lost answers.\n\nTry it: yufu dev"),
		kong.Writers(std.out, std.err),
		kong.Exit(func(code int) { exited = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.ValueFormatter(helpText),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(std),
	)
	if err != nil {
		fmt.Fprintln(std.err, "yufu:", err)
		return 1
	}
	parser.Model.HelpFlag.Help = "Show this help."
	known := knownVariables(parser.Model)
	if err := unsetEmpty(known); err != nil {
		fmt.Fprintln(std.err, "yufu:", err)
		return 1
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	command, err := parser.Parse(args)
	if exited >= 0 { // --help
		return exited
	}
	if err != nil {
		// The parser quotes what it does not understand: perhaps a database URL
		// that lost its flag.
		fmt.Fprintf(std.err, "yufu: %s\nyufu: see: %s --help\n", telemetry.Redact(err.Error()), commandPath(err))
		return 2
	}
	if err := setting.CheckEnviron(environ, known); err != nil {
		fmt.Fprintln(std.err, "yufu:", err)
		return 2
	}
	err = command.Run()
	if err == nil {
		return 0
	}
	var usage *usageError
	if errors.As(err, &usage) {
		// More than one setting may be wrong; each has its line.
		for line := range strings.Lines(err.Error() + "\n") {
			fmt.Fprint(std.err, "yufu: ", line)
		}
		fmt.Fprintf(std.err, "yufu: see: %s --help\n", command.Selected().FullPath())
		return 2
	}
	// What comes from far below may quote what it was given.
	fmt.Fprintln(std.err, "yufu:", telemetry.Redact(err.Error()))
	return 1
}

// commandPath is the command that the user was at when parsing failed.
func commandPath(err error) string {
	var parse *kong.ParseError
	if errors.As(err, &parse) && parse.Context != nil {
		if node := parse.Context.Selected(); node != nil {
			return node.FullPath()
		}
	}
	return "yufu"
}

// usageError is a wrong or missing setting.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// wrongUsage marks an error as the operator's to mend; nil stays nil.
func wrongUsage(err error) error {
	if err == nil {
		return nil
	}
	return &usageError{err}
}

// unsetEmpty makes variables without a value the same as variables that are not
// set: what templates and compose files make of a setting nobody gave.
func unsetEmpty(names []string) error {
	for _, name := range names {
		if v, ok := os.LookupEnv(name); ok && v == "" {
			if err := os.Unsetenv(name); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

// knownVariables lists the environment variables that some command reads.
func knownVariables(app *kong.Application) []string {
	var known []string
	var visit func(n *kong.Node)
	visit = func(n *kong.Node) {
		for _, f := range n.Flags {
			known = append(known, f.Envs...)
		}
		for _, child := range n.Children {
			visit(child)
		}
	}
	visit(app.Node)
	return known
}
