// Command yufu is the whole service in one binary: "yufu serve" in production, "yufu dev" on
// a laptop, and the commands for operators.
//
// This package owns the command line and the assembly of the service from its parts. It
// does not own the settings (internal/setting) or any rule of the domain (pkg). Each
// subcommand has a file, which parses, calls a use case and prints. Files use each other in
// one direction: from main.go to the subcommands, the parts of the service and the files that
// these share. The table fileOrder in order_test.go holds the order.
//
// Exit codes: 0 after success, 1 after a failure, 2 when the command line or the
// environment is wrong.
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

	"github.com/yufu-auth/yufu/cmd/yufu/internal/memory"
	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
	"github.com/yufu-auth/yufu/pkg/telemetry"
)

type cli struct {
	Serve      serveCmd      `cmd:"" help:"Run the service."`
	Dev        devCmd        `cmd:"" help:"Try the service on this machine, with SQLite and a simulated WeChat."`
	App        appCmd        `cmd:"" help:"Register and change mini-programs."`
	ServiceKey serviceKeyCmd `cmd:"" name:"service-key" help:"Make and revoke the keys of back ends and admins."`
	Keys       keysCmd       `cmd:"" help:"Rotate and retire the keys that sign tokens."`
	MasterKey  masterKeyCmd  `cmd:"" name:"master-key" help:"Show what the master keys seal, and seal it again with a new one."`
	Person     personCmd     `cmd:"" help:"Import, find, disable and enable persons."`
	Audit      auditCmd      `cmd:"" help:"Read the audit log: who did what."`
	Migrate    migrateCmd    `cmd:"" help:"Bring the database schema up to date."`
	Wechatsim  wechatsimCmd  `cmd:"" help:"Run only the WeChat simulator."`
	Version    versionCmd    `cmd:"" help:"Print the version."`
}

func main() {
	memory.Tune()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal kills the program, even if it hangs.
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], os.Environ(), streams{os.Stdin, os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}

// run parses the command line, runs the command and returns the exit code. Settings that are
// not on the command line come from the environment of the process. Environ is that
// environment, which run checks for settings that do not exist.
func run(ctx context.Context, args, environ []string, std streams) int {
	var c cli
	exited := -1
	parser, err := kong.New(&c, append(setting.Decoders(),
		kong.Name("yufu"),
		kong.Description("Yufu signs mini-program users in: a wx.login code becomes a short-lived signed token and a refresh token that survives lost answers.\n\nTry it: yufu dev"),
		kong.Writers(std.out, std.err),
		kong.Exit(func(code int) { exited = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.ValueFormatter(setting.Help),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(std),
	)...)
	if err != nil {
		fmt.Fprintln(std.err, "yufu:", err)
		return 1
	}
	parser.Model.HelpFlag.Help = "Show this help."
	known := setting.Variables(parser.Model)
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
		// The parser quotes an argument that it does not understand, which may be a database URL.
		fmt.Fprintf(std.err, "yufu: %s\nyufu: see: %s --help\n", telemetry.Redact(plain.Replace(err.Error())), commandPath(err))
		return 2
	}
	if err := setting.CheckEnviron(environ, known); err != nil {
		fmt.Fprintln(std.err, "yufu:", err)
		return 2
	}
	if err = wrongUsage(check(command, std)); err == nil {
		err = command.Run()
	}
	return report(std.err, command, err)
}

// argsChecker is a command with arguments, or flags without a variable, that need more than
// the check of their bounds.
type argsChecker interface {
	// checkArgs returns an error for each argument and flag that is wrong. It reads nothing.
	checkArgs() error
}

// settingsChecker is a command with settings that need more than the check of their
// bounds: they may be missing or malformed. Its Run checks them, too.
type settingsChecker interface {
	// checkSettings returns an error for each setting that is missing or wrong. It does not
	// compare settings that have bounds with each other. It may read secret files and
	// standard input, so the command must not run afterwards.
	checkSettings(std streams) error
}

// check returns an error if a setting is out of bounds or an argument is wrong. The error
// then also has a line for every other setting that is missing or wrong, so that the
// operator sees all of them at once.
func check(command *kong.Context, std streams) error {
	target := command.Selected().Target.Addr().Interface()
	err := setting.CheckBounds(command)
	if c, ok := target.(argsChecker); ok {
		err = errors.Join(err, c.checkArgs())
	}
	if c, ok := target.(settingsChecker); ok && err != nil {
		err = errors.Join(err, c.checkSettings(std))
	}
	return err
}

// report prints the error of a command, with a line for each setting that is wrong, and
// returns the exit code.
func report(w io.Writer, command *kong.Context, err error) int {
	if err == nil {
		return 0
	}
	names := setting.FlagNames(command)
	if usage, ok := errors.AsType[*usageError](err); ok {
		for _, line := range setting.Lines(usage.err, names) {
			fmt.Fprintln(w, "yufu:", line)
		}
		fmt.Fprintf(w, "yufu: see: %s --help\n", command.Selected().FullPath())
		return 2
	}
	// An error of a library may quote a secret.
	for _, line := range setting.Lines(err, names) {
		fmt.Fprintln(w, "yufu:", telemetry.Redact(line))
	}
	return 1
}

// plain replaces words of the parser that only its authors know.
var plain = strings.NewReplacer(
	`but got "EOL" (<EOL>)`, "but the command line ends",
	"expected a valid 64 bit int but got", "must be a whole number, got",
	"(from envar ", "(from ",
)

// commandPath returns the command at which parsing failed.
func commandPath(err error) string {
	var parse *kong.ParseError
	if errors.As(err, &parse) && parse.Context != nil {
		if node := parse.Context.Selected(); node != nil {
			return node.FullPath()
		}
	}
	return "yufu"
}

// unsetEmpty unsets variables with an empty value. Templates and compose files set such
// variables for settings that have no value.
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
