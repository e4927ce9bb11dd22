package gate_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/api/gate"
	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
	"github.com/yufu-auth/yufu/pkg/cutoffs"
	"github.com/yufu-auth/yufu/pkg/cutoffs/cutoffstest"
	"github.com/yufu-auth/yufu/pkg/servicekey"
)

// world is the endpoint with a real follower.
type world struct {
	db       *cutoffstest.Store
	follower *cutoffs.Follower
	url      string
	refusal  error // the error of authorize; set before the requests
	key      servicekey.Key
	stop     context.CancelFunc
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{db: cutoffstest.New()}
	var err error
	w.follower, err = cutoffs.Open(t.Context(), cutoffs.Config{
		Store: w.db, MaxStaleness: 30 * time.Second, Clock: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan struct{})
	go func() { w.follower.Run(ctx); close(ran) }()
	w.stop = stop
	r := chi.NewRouter()
	r.Use(web.Events(slog.New(slog.DiscardHandler), func(web.Observation) {}, time.Now))
	gate.New(w.follower, func(*http.Request, servicekey.Scope) (servicekey.Key, error) { return w.key, w.refusal }).Mount(r)
	srv := httptest.NewServer(r)
	t.Cleanup(func() {
		stop()
		<-ran
		srv.Close()
	})
	w.url = srv.URL + "/v1/revocations"
	return w
}

// get requests the feed in the given form.
func (w *world) get(t *testing.T, accept, query, lastEventID string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	if lastEventID != "" {
		req.Header.Set("Last-Event-ID", lastEventID)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func ended() auth.Cutoff { return auth.SessionEnded("", uuid.Must(uuid.NewV7()), time.Now()) }

// until reads events up to the first with the name, and returns all of them.
func until(t *testing.T, events *cutoff.Reader, name string) []cutoff.Event {
	t.Helper()
	var all []cutoff.Event
	for {
		e, err := events.Next()
		if err != nil {
			t.Fatalf("reading after %v: %v", all, err)
		}
		e.Data = append([]byte(nil), e.Data...)
		all = append(all, e)
		if e.Name == name {
			return all
		}
	}
}

const stream = "text/event-stream"

func TestRevocations(t *testing.T) {
	t.Parallel()
	t.Run("a stream has a snapshot, ready, and then each cutoff when it is committed", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.db.Commit(ended())
		// Otherwise it may come after ready, as a new cutoff does.
		if err := w.follower.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		resp := w.get(t, stream, "", "")
		for name, want := range map[string]string{"Content-Type": stream, "Cache-Control": "no-store", "X-Accel-Buffering": "no"} {
			if got := resp.Header.Get(name); got != want {
				t.Errorf("%s: got %q, want %q", name, got, want)
			}
		}
		events := cutoff.NewReader(resp.Body)
		ready := until(t, events, cutoff.EventReady)
		last := ready[len(ready)-1]
		if last.ID == "" {
			t.Error("ready has no id")
		}
		w.db.Commit(ended())
		news := until(t, events, cutoff.EventCutoff)
		id := news[len(news)-1].ID
		if id == "" || id == last.ID {
			t.Errorf("the id of a new cutoff is %q after %q", id, last.ID)
		}

		t.Run("a stream resumes where it ended", func(t *testing.T) {
			w.db.Commit(ended())
			if err := w.follower.CatchUp(t.Context()); err != nil {
				t.Fatal(err)
			}
			again := until(t, cutoff.NewReader(w.get(t, stream, "", id).Body), cutoff.EventReady)
			if len(again) != 2 || again[0].Name != cutoff.EventCutoff || again[0].ID == "" {
				t.Errorf("resumed with %v, want the one cutoff that came since", again)
			}
		})
		t.Run("a stream starts again after an unknown id", func(t *testing.T) {
			again := until(t, cutoff.NewReader(w.get(t, stream, "", "elsewhere.7").Body), cutoff.EventReady)
			if again[0].Name != cutoff.EventReset || len(again) != 5 {
				t.Errorf("began with %v, want reset, three cutoffs, ready", again)
			}
		})
	})
	t.Run("pages are served without the stream's media type", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.db.Commit(ended(), ended())
		if err := w.follower.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		page := func(after string) (p cutoff.Page) {
			resp := w.get(t, "application/json", "?after="+after, "")
			if resp.StatusCode != http.StatusOK {
				t.Fatalf("status = %d, want 200", resp.StatusCode)
			}
			if err := json.NewDecoder(resp.Body).Decode(&p); err != nil {
				t.Fatal(err)
			}
			return p
		}
		first := page("")
		if len(first.Cutoffs) != 2 || first.Next == "" || first.MaxStalenessMS != 30_000 {
			t.Errorf("first page = %+v, want 2 cutoffs, a next page and a maximum staleness of 30 s", first)
		}
		if second := page(first.Next); len(second.Cutoffs) != 0 || second.Next != first.Next {
			t.Errorf("the page after all cutoffs is %+v, want an empty one", second)
		}
	})
	t.Run("any list of kinds is accepted", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		for _, query := range []string{"?kinds=", "?kinds=session,app,key", "?kinds=weather,,%00", "?kinds=a&kinds=b", "?kinds=" + strings.Repeat("x,", 5000)} {
			for _, accept := range []string{stream, "application/json"} {
				if resp := w.get(t, accept, query, ""); resp.StatusCode != http.StatusOK {
					t.Errorf("%.40s as %s: status %d, want 200", query, accept, resp.StatusCode)
				}
			}
		}
	})
	t.Run("the feed names the app to which the service key is pinned", func(t *testing.T) {
		t.Parallel()
		for name, c := range map[string]struct {
			key  servicekey.Key
			want string
		}{
			"a pinned key":              {servicekey.Key{PinnedApp: "wx1"}, "wx1"},
			"a key of one app":          {servicekey.Key{Apps: []string{"wx2"}}, "wx2"},
			"a key of several apps":     {servicekey.Key{Apps: []string{"wx1", "wx2"}}, ""},
			"a pinned key of several":   {servicekey.Key{Apps: []string{"wx1", "wx2"}, PinnedApp: "wx2"}, "wx2"},
			"a key that is not pinned":  {servicekey.Key{PinnedAt: time.Unix(1, 0)}, ""},
			"a key that is not decided": {servicekey.Key{}, ""},
		} {
			w := newWorld(t)
			w.key = c.key
			events := until(t, cutoff.NewReader(w.get(t, stream, "", "").Body), cutoff.EventReady)
			ready, err := cutoff.ParseReady(events[len(events)-1].Data)
			if err != nil || ready.App != c.want {
				t.Errorf("%s: ready names %q (%v), want %q", name, ready.App, err, c.want)
			}
			var page cutoff.Page
			if err := json.NewDecoder(w.get(t, "application/json", "", "").Body).Decode(&page); err != nil || page.App != c.want {
				t.Errorf("%s: the page names %q (%v), want %q", name, page.App, err, c.want)
			}
		}
	})
	t.Run("only service keys are accepted", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.refusal = auth.InsufficientScope
		for _, accept := range []string{stream, "application/json"} {
			if resp := w.get(t, accept, "", ""); resp.StatusCode != http.StatusForbidden {
				t.Errorf("%s: status = %d", accept, resp.StatusCode)
			}
		}
	})
	t.Run("streams end when the replica shuts down", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		events := cutoff.NewReader(w.get(t, stream, "", "").Body)
		until(t, events, cutoff.EventReady)
		w.stop()
		for {
			_, err := events.Next()
			if err == nil {
				continue // a heartbeat that was under way
			}
			if !errors.Is(err, io.EOF) {
				t.Errorf("the stream ended with %v, want its end", err)
			}
			return
		}
	})
}
