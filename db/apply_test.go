package db_test

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"slices"
	"testing"

	"github.com/yufu-auth/yufu/db"
	"github.com/yufu-auth/yufu/pkg/auth"
)

// writesNoCutoff lists the methods of a store that never write a cutoff. The suite in
// db/storetest detects a listed method that writes one.
var writesNoCutoff = []string{
	"AddApp", "AddFactKey", "AddServiceKey", "AddTicket", "App", "Apps", "AppsState", "Attempts", "AuditRecords", "Candidate",
	"CheckSchema", "Confirm", "CreatePerson", "Cutoffs", "DeleteExpired", "EnableIdentity",
	"EnablePerson", "EndPlatformTokenLease", "FactKey", "FirstPinServiceKey", "ForcePlatformToken",
	"Identities", "Identity", "IdentitySessions", "KeepPlatformToken", "Keys", "KeysVersion",
	"LeasePlatformToken", "LiftDelay", "Listen", "LiveSessions", "Migrate", "Now", "Person",
	"Persons", "PhoneCandidate", "PinServiceKey", "Ping", "PlatformAccount", "PlatformToken",
	"RecordRefusal", "Refund", "Replicas", "Reserve", "RevokeServiceKey", "SaveReplica", "ServiceKey",
	"ServiceKeys", "Session", "ShardKey", "Ticket", "TouchServiceKey", "UpdateApp", "UpdatePerson",
	"UpsertPersons", "RecordHistory", "RecordedHistory", "RecordRewrap", "ReplaceSealed", "SealedRows",
}

// A new method of the interface must be listed in writesNoCutoff or overridden in
// applying.
func TestApplyCutoffsCoversStore(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "apply.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var applies []string
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Recv != nil && f.Name.IsExported() {
			applies = append(applies, f.Name.Name)
		}
	}
	store := reflect.TypeFor[db.Store]()
	var methods []string
	for i := range store.NumMethod() {
		name := store.Method(i).Name
		methods = append(methods, name)
		if slices.Contains(applies, name) == slices.Contains(writesNoCutoff, name) {
			t.Errorf("%s must be either in writesNoCutoff or a method of the store that ApplyCutoffs returns", name)
		}
	}
	for _, name := range append(applies, writesNoCutoff...) {
		if !slices.Contains(methods, name) {
			t.Errorf("%s is not a method of db.Store", name)
		}
	}
}

// committed is a store that commits a change while the caller gives up.
type committed struct {
	db.Store
	giveUp context.CancelFunc
}

func (c committed) DisableApp(context.Context, string, auth.AuditEvent) (auth.App, error) {
	c.giveUp()
	return auth.App{}, nil
}

func TestApplyCutoffsAfterCancel(t *testing.T) {
	t.Parallel()
	ctx, giveUp := context.WithCancel(t.Context())
	calls := 0
	s := db.ApplyCutoffs(committed{giveUp: giveUp}, func(ctx context.Context) {
		calls++
		if _, bounded := ctx.Deadline(); ctx.Err() != nil || !bounded {
			t.Errorf("context of the catch-up: Err() = %v, has deadline = %t; want nil and true", ctx.Err(), bounded)
		}
	})
	if _, err := s.DisableApp(ctx, "wx1", auth.AuditEvent{}); err != nil || calls != 1 {
		t.Errorf("DisableApp() error = %v after %d catch-ups, want nil after 1", err, calls)
	}
}
