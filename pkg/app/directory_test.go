package app_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a store of apps that can fail and hang.
type memory struct {
	mu    sync.Mutex
	apps  []auth.App
	err   error
	hangs bool
	reads int
	// replaced are the apps of a replaced server, to which reads still lead.
	replaced []auth.App
	// versionErr is the error of version.
	versionErr error
}

// version is a [app.DirectoryConfig.Version] that was read half a second ago.
func (m *memory) version() (string, time.Time, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return fmt.Sprint(m.apps), time.Now().Add(-time.Second / 2), m.versionErr
}

func (m *memory) AppsState(ctx context.Context) (string, []auth.App, error) {
	m.mu.Lock()
	apps, err, hangs := m.apps, m.err, m.hangs
	if m.replaced != nil {
		apps = m.replaced
	}
	m.reads++
	m.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return "", nil, ctx.Err()
	}
	return fmt.Sprint(apps), apps, err
}

func (m *memory) set(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

// apps returns n apps, wx1 and so on.
func apps(n int) []auth.App {
	var all []auth.App
	for i := range n {
		all = append(all, auth.App{ID: fmt.Sprint("wx", i+1), Policy: auth.Policy{Attributes: []string{"department"}}})
	}
	return all
}

const maxStaleness = 30 * time.Second

func open(t *testing.T, m *memory) (*app.Directory, error) {
	t.Helper()
	return app.OpenDirectory(t.Context(), app.DirectoryConfig{
		Store: m, MaxStaleness: maxStaleness, Clock: time.Now, Log: slog.New(slog.DiscardHandler), Version: m.version,
	})
}

// inBubble runs a directory with one app in a bubble of testing/synctest.
func inBubble(t *testing.T, test func(t *testing.T, m *memory, d *app.Directory)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := &memory{apps: apps(1)}
		d, err := open(t, m)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { d.Run(ctx) })
		defer running.Wait()
		defer stop()
		time.Sleep(time.Hour + time.Millisecond) // between two reads
		test(t, m, d)
	})
}

func wantApp(t *testing.T, d *app.Directory, id string, want auth.Code) {
	t.Helper()
	synctest.Wait()
	a, err := d.App(id)
	if auth.CodeOf(err) != want {
		t.Errorf("App(%s) error = %v, want %q", id, err, want)
	}
	if err == nil && (a.ID != id || len(a.Policy.Attributes) != 1) {
		t.Errorf("App(%s) = %+v", id, a)
	}
}

func wantSeveral(t *testing.T, d *app.Directory, several bool, want auth.Code) {
	t.Helper()
	synctest.Wait()
	if got, err := d.HasSeveral(); got != several || auth.CodeOf(err) != want {
		t.Errorf("HasSeveral() = %t, %v; want %t, %q", got, err, several, want)
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	t.Run("fails without a database", func(t *testing.T) {
		t.Parallel()
		if _, err := open(t, &memory{err: auth.StorageUnavailable}); !errors.Is(err, auth.StorageUnavailable) {
			t.Errorf("Open() error = %v, want %v", err, auth.StorageUnavailable)
		}
	})
	t.Run("reads the apps", func(t *testing.T) {
		t.Parallel()
		for n := range 4 {
			d, err := open(t, &memory{apps: apps(n)})
			if err != nil {
				t.Fatal(err)
			}
			if several, err := d.HasSeveral(); several != (n > 1) || err != nil {
				t.Errorf("%d apps: HasSeveral() = %t, %v", n, several, err)
			}
		}
	})
}

func TestDirectory(t *testing.T) {
	t.Parallel()
	t.Run("a change is known within a second", func(t *testing.T) {
		t.Parallel()
		inBubble(t, func(t *testing.T, m *memory, d *app.Directory) {
			wantApp(t, d, "wx1", "")
			wantApp(t, d, "wx2", auth.AppUnknown)
			wantSeveral(t, d, false, "")
			m.set(func() { m.apps = apps(2) })
			time.Sleep(time.Second)
			wantApp(t, d, "wx2", "")
			wantSeveral(t, d, true, "")
		})
	})
	t.Run("the directory answers from memory until it is too old", func(t *testing.T) {
		t.Parallel()
		inBubble(t, func(t *testing.T, m *memory, d *app.Directory) {
			m.set(func() { m.versionErr = auth.StorageUnavailable })
			time.Sleep(maxStaleness - time.Second)
			wantApp(t, d, "wx1", "")
			wantSeveral(t, d, false, "")
			time.Sleep(time.Second)
			wantApp(t, d, "wx1", auth.StorageUnavailable)
			wantSeveral(t, d, false, auth.StorageUnavailable)
			m.set(func() { m.versionErr = nil })
			time.Sleep(time.Second)
			wantApp(t, d, "wx1", "")
			wantSeveral(t, d, false, "")
		})
	})
	t.Run("several apps stay known for ever", func(t *testing.T) {
		t.Parallel()
		inBubble(t, func(t *testing.T, m *memory, d *app.Directory) {
			m.set(func() { m.apps = apps(2) })
			time.Sleep(time.Second)
			m.set(func() { m.versionErr = auth.StorageUnavailable })
			time.Sleep(time.Hour)
			wantSeveral(t, d, true, "")
			wantApp(t, d, "wx1", auth.StorageUnavailable)
		})
	})
	t.Run("the apps are read only when they have changed", func(t *testing.T) {
		t.Parallel()
		inBubble(t, func(t *testing.T, m *memory, d *app.Directory) {
			wantReads := func(want int) {
				t.Helper()
				synctest.Wait()
				m.set(func() {
					if m.reads != want {
						t.Errorf("the apps were read %d times, want %d", m.reads, want)
					}
				})
			}
			wantReads(1) // after an hour
			wantApp(t, d, "wx1", "")
			m.set(func() { m.apps = apps(2) })
			d.Wake()
			wantApp(t, d, "wx2", "")
			wantReads(2)
			time.Sleep(time.Hour)
			wantReads(2)
		})
	})
	t.Run("the apps of a replaced server are not taken for those of its successor", func(t *testing.T) {
		t.Parallel()
		inBubble(t, func(t *testing.T, m *memory, d *app.Directory) {
			m.set(func() { m.apps, m.replaced = apps(2), apps(1) })
			time.Sleep(maxStaleness - time.Second)
			wantApp(t, d, "wx1", "")
			wantApp(t, d, "wx2", auth.AppUnknown)
			time.Sleep(2 * time.Second)
			wantApp(t, d, "wx1", auth.StorageUnavailable)
			m.set(func() { m.replaced = nil })
			time.Sleep(time.Second)
			wantApp(t, d, "wx2", "")
		})
	})
	t.Run("apps that changed but cannot be read get too old", func(t *testing.T) {
		t.Parallel()
		inBubble(t, func(t *testing.T, m *memory, d *app.Directory) {
			m.set(func() { m.apps, m.hangs = apps(2), true })
			time.Sleep(maxStaleness - time.Second)
			wantApp(t, d, "wx1", "")
			wantApp(t, d, "wx2", auth.AppUnknown)
			time.Sleep(time.Second)
			wantApp(t, d, "wx1", auth.StorageUnavailable)
			m.set(func() { m.hangs = false })
			time.Sleep(4 * time.Second) // wait for the end of the hanging read
			wantApp(t, d, "wx2", "")
		})
	})
}
