package oauth_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/yufu-auth/yufu/api/oauth"
	"github.com/yufu-auth/yufu/db/pgtest"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/shard"
	"github.com/yufu-auth/yufu/pkg/token"
)

// ceilingWorkers is how many refreshes run at once.
const ceilingWorkers = 8

// ceilingBlock returns how many refreshes each side does before the other one is next. A
// session refreshes once in a block.
func ceilingBlock() int { return atLeast(200, 10) }

// BenchmarkRefresh compares the processor time of a refresh with that of a handler written
// by hand, [ceiling], which does the same work and nothing else. The two take turns, so that
// other programs on the machine slow both. It measures from the router to the answer; the
// processor time of PostgreSQL does not count. It reports for each refresh, as medians of
// the blocks:
//
//	cpu-ns/op          processor time of this program
//	ceiling-cpu-ns/op  the same of the handler written by hand
//	of-ceiling         the second divided by the first, in blocks that follow each other
//	trips/op           round trips to the database
//
// An operation of the benchmark is a block of refreshes, not one refresh.
func BenchmarkRefresh(b *testing.B) {
	server := pgtest.NewServer(b)
	n := 0
	for _, bound := range []bool{false, true} {
		for _, alg := range []string{"ES256", "EdDSA"} {
			name := map[bool]string{false: "unbound", true: "bound"}[bound]
			b.Run(name+"/"+alg, func(b *testing.B) {
				n++
				database := fmt.Sprintf("refresh%d", n)
				s := benchPostgres(b, server, database)
				s.ahead.Store(int64(time.Hour)) // the keys below sign already
				c := newCeiling(b, s, server.DSN(database), alg)
				ours := &side{handler: s.router, trips: s.trips}
				hand := &side{handler: c.router(), trips: c.trips}
				for range ceilingBlock() {
					ours.tokens = append(ours.tokens, s.exchange(b))
					hand.tokens = append(hand.tokens, s.exchange(b))
				}
				c.exec(b, "update apps set signing_alg = $1", alg)
				if bound {
					c.exec(b, "insert into persons (id, external_id, name, created_at) select uuid, 'E-' || right(uuid::text, 12), '张三', created_at from identities")
					c.exec(b, "update identities set person_id = uuid")
					c.exec(b, "update sessions set person_id = identity_uuid, ver = ver + 1")
				}
				for _, x := range []*side{ours, hand} {
					x.refresh(b) // opens the connections and prepares the statements
					x.check(b, alg, bound)
					x.blocks = nil
				}
				before, ratios := s.trips.Load(), []float64(nil)
				for b.Loop() {
					s.ahead.Add(int64(time.Second)) // no session refreshes more often
					ours.refresh(b)
					hand.refresh(b)
					last := len(ours.blocks) - 1
					ratios = append(ratios, hand.blocks[last]/ours.blocks[last])
				}
				// TestRoundTrips in db/postgres checks the number. Here it can be greater by
				// chance: a worker that finds no idle connection opens one.
				trips := float64(s.trips.Load()-before) / float64(len(ratios)*ceilingBlock())
				b.ReportMetric(0, "ns/op") // hides the time of a block
				b.ReportMetric(median(ours.blocks), "cpu-ns/op")
				b.ReportMetric(median(hand.blocks), "ceiling-cpu-ns/op")
				b.ReportMetric(median(ratios), "of-ceiling")
				b.ReportMetric(trips, "trips/op")
			})
		}
	}
}

func median(of []float64) float64 {
	return slices.Sorted(slices.Values(of))[len(of)/2]
}

// side is one of two handlers that are compared, with the refresh tokens of its sessions.
type side struct {
	handler http.Handler
	tokens  []string
	trips   *atomic.Int64
	// last is an answer of the last block.
	last []byte
	// blocks has the processor time of a refresh for each block, in nanoseconds.
	blocks []float64
}

// refresh refreshes each session once. Only the handler's processor time counts.
func (x *side) refresh(b *testing.B) {
	b.Helper()
	requests := make([]*http.Request, len(x.tokens))
	answers := make([]*httptest.ResponseRecorder, len(x.tokens))
	for i, t := range x.tokens {
		form := url.Values{"client_id": {benchApp}, "grant_type": {oauth.GrantRefreshToken}, "refresh_token": {t}}
		ctx, cancel := context.WithCancel(b.Context()) // a server gives each request such a context
		defer cancel()
		requests[i] = httptest.NewRequestWithContext(ctx, http.MethodPost, "/oauth2/token", strings.NewReader(form.Encode()))
		requests[i].Header.Set("Content-Type", "application/x-www-form-urlencoded")
		answers[i] = httptest.NewRecorder()
	}
	before := processorTime(b)
	var (
		next    atomic.Int64
		workers sync.WaitGroup
	)
	for range ceilingWorkers {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(requests)); i = next.Add(1) - 1 {
				x.handler.ServeHTTP(answers[i], requests[i])
			}
		})
	}
	workers.Wait()
	x.blocks = append(x.blocks, float64(processorTime(b)-before)/float64(len(requests)))
	for i, w := range answers {
		x.last = w.Body.Bytes()
		var answer struct {
			RefreshToken string `json:"refresh_token"`
		}
		if err := json.Unmarshal(x.last, &answer); err != nil || answer.RefreshToken == "" {
			b.Fatalf("status and body = %d %s, want a refresh token", w.Code, w.Body)
		}
		x.tokens[i] = answer.RefreshToken
	}
}

// check fails the benchmark if the last answer is not that of such a session, so that both
// sides do the same work.
func (x *side) check(b *testing.B, alg string, bound bool) {
	b.Helper()
	var answer struct {
		AccessToken string `json:"access_token"`
		Person      *struct {
			ExternalID string `json:"external_id"`
		} `json:"person"`
	}
	if err := json.Unmarshal(x.last, &answer); err != nil {
		b.Fatal(err)
	}
	head, rest, _ := strings.Cut(answer.AccessToken, ".")
	body, _, _ := strings.Cut(rest, ".")
	header, err := base64.RawURLEncoding.DecodeString(head)
	if err != nil || !bytes.Contains(header, []byte(`"`+alg+`"`)) {
		b.Fatalf("header = %s, want one of %s", header, alg)
	}
	claims, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil || bytes.Contains(claims, []byte(`"external_id":"E-`)) != bound || (answer.Person != nil && answer.Person.ExternalID != "") != bound {
		b.Fatalf("answer = %s, claims = %s, want bound = %t", x.last, claims, bound)
	}
}

// processorTime returns the time that the process has used the processors.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// ceiling is a refresh written by hand for one app and one pair of keys: it has no errors,
// limits, log, metrics, replays or key rotation. Its tokens and answers have the form of
// ours.
type ceiling struct {
	pool   *pgxpool.Pool
	trips  *atomic.Int64
	clock  func() time.Time
	macID  uint32
	macKey []byte
	alg    string
	header string
	key    crypto.Signer
}

func newCeiling(b *testing.B, s *benchStack, dsn, alg string) *ceiling {
	b.Helper()
	check := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	ctx := b.Context()
	cfg, err := pgxpool.ParseConfig(dsn)
	check(err)
	trips := &atomic.Int64{}
	cfg.MaxConns, cfg.ConnConfig.Tracer = 20, tripCounter{trips}
	c := &ceiling{trips: trips, alg: alg, clock: func() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }}
	c.pool, err = pgxpool.NewWithConfig(ctx, cfg)
	check(err)
	b.Cleanup(c.pool.Close)
	keeper, err := keyring.NewKeeper(keyring.KeeperConfig{
		Ring: s.keys, Policy: keyring.DefaultPolicy, Clock: time.Now, DatabaseClock: func(context.Context) (time.Time, error) { return time.Now(), nil },
	})
	check(err)
	_, err = keeper.EnsureKeys(ctx, alg, auth.AuditEvent{Actor: auth.ActorCLI})
	check(err)
	key, err := s.keys.CurrentSigningKey(alg, c.clock())
	check(err)
	c.key = key.Key
	c.header = base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"alg":%q,"kid":%q,"typ":%q}`, key.Alg, key.KID, token.AccessType))
	c.macID, c.macKey, err = s.keys.CurrentMACKey(c.clock())
	check(err)
	return c
}

func (c *ceiling) exec(b *testing.B, sql string, args ...any) {
	b.Helper()
	if _, err := c.pool.Exec(b.Context(), sql, args...); err != nil {
		b.Fatal(err)
	}
}

func (c *ceiling) router() http.Handler {
	r := chi.NewRouter()
	r.Post("/oauth2/token", c.refresh)
	return r
}

const ceilingSQL = `
update sessions s set generation = generation + 1, rotated_at = $4, idle_expires_at = least($5, expires_at)
where id = $1 and shard = $2 and generation = $3 and appid = $6
  and ended_at is null and expires_at > $4 and idle_expires_at > $4
returning identity_uuid, ver, epoch, expires_at, person_id,
  (select external_id from persons p where p.id = s.person_id), (select name from persons p where p.id = s.person_id)`

const day = 24 * time.Hour

func (c *ceiling) refresh(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil || r.PostForm.Get("grant_type") != "refresh_token" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	t, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(r.PostForm.Get("refresh_token"), "yfr_"))
	if err != nil || len(t) != 45 || !hmac.Equal(c.mac(t[:25]), t[25:]) {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	var (
		now              = c.clock()
		session          = uuid.UUID(t[5:21])
		generation       = binary.BigEndian.Uint32(t[21:])
		identity         uuid.UUID
		ver, epoch       int64
		ends             time.Time
		person           *uuid.UUID
		externalID, name *string
	)
	err = c.pool.QueryRow(r.Context(), ceilingSQL, session, shard.Of(session), generation, now, now.Add(30*day), r.PostForm.Get("client_id")).
		Scan(&identity, &ver, &epoch, &ends, &person, &externalID, &name)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	binary.BigEndian.PutUint32(t[21:], generation+1)
	copy(t[25:], c.mac(t[:25]))

	claims := make([]byte, 0, 512)
	claims = append(claims, `{"iss":"`+benchIssuer+`","sub":"`+identity.String()+`","aud":["`+benchIssuer+`"],"client_id":"`+benchApp+`","iat":`...)
	claims = strconv.AppendInt(claims, now.Unix(), 10)
	claims = strconv.AppendInt(append(claims, `,"exp":`...), now.Unix()+600, 10)
	claims = append(claims, `,"jti":"`+rand.Text()+`","sid":"`+session.String()+`","ver":`...)
	claims = strconv.AppendInt(claims, ver, 10)
	claims = strconv.AppendInt(append(claims, `,"epoch":`...), epoch, 10)
	shown := "null"
	if person != nil {
		claims = append(claims, `,"bound":true,"person":"`+person.String()+`","external_id":"`+*externalID+`"}`...)
		shown = `{"id":"` + person.String() + `","external_id":"` + *externalID + `","name":"` + *name + `"}`
	} else {
		claims = append(claims, `,"bound":false}`...)
	}
	access := append(make([]byte, 0, 1024), c.header...)
	access = base64.RawURLEncoding.AppendEncode(append(access, '.'), claims)
	signature := c.sign(access)
	access = base64.RawURLEncoding.AppendEncode(append(access, '.'), signature)

	left := int64(ends.Sub(now).Seconds())
	answer := append(make([]byte, 0, 2048), `{"access_token":"`...)
	answer = append(answer, access...)
	answer = append(answer, `","token_type":"Bearer","expires_in":600,"refresh_token":"yfr_`...)
	answer = base64.RawURLEncoding.AppendEncode(answer, t)
	answer = strconv.AppendInt(append(answer, `","refresh_token_timeout":`...), min(left, int64(30*day/time.Second)), 10)
	answer = strconv.AppendInt(append(answer, `,"authorization_expires_in":`...), left, 10)
	answer = append(answer, `,"uuid":"`+identity.String()+`","bound":`+strconv.FormatBool(person != nil)+`,"person":`+shown+"}\n"...)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(answer)
}

func (c *ceiling) mac(head []byte) []byte {
	m := hmac.New(sha256.New, c.macKey)
	m.Write([]byte("yufu refresh token\x00"))
	m.Write(head)
	return m.Sum(nil)[:20]
}

func (c *ceiling) sign(text []byte) []byte {
	if key, ok := c.key.(ed25519.PrivateKey); ok {
		return ed25519.Sign(key, text)
	}
	sum := sha256.Sum256(text)
	r, s, err := ecdsa.Sign(rand.Reader, c.key.(*ecdsa.PrivateKey), sum[:])
	if err != nil {
		panic(err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signature
}
