package storetest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/yufu-auth/yufu/pkg/auth"
)

func replica(started time.Time) auth.Replica {
	return auth.Replica{
		ID: newID(), Version: "v1.2.3", MasterKey: "1a2b3c4d", StartedAt: started, SeenAt: started, Ready: true,
		Settings: auth.Settings{Issuer: "https://auth.example.com", JWKSMaxAge: 5 * time.Minute, SessionMaxTTL: maxTTL, MaxStaleness: 30 * time.Second},
	}
}

func (f *fixture) wantReplicas(t testing.TB, want ...auth.Replica) {
	t.Helper()
	got, err := f.Store.Replicas(t.Context())
	wantCode(t, err, "")
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Replicas() (-want +got):\n%s", d)
	}
}

var replicaTests = []test{
	{"there are none at first", func(t *testing.T, f *fixture) {
		f.wantReplicas(t)
	}},
	{"are listed as last saved, the earliest start first", func(t *testing.T, f *fixture) {
		late, early := replica(t0.Add(time.Minute)), replica(t0)
		for _, r := range []auth.Replica{late, early} {
			wantCode(t, f.Store.SaveReplica(t.Context(), r), "")
		}
		early.Ready, early.Reason, early.SeenAt, early.MasterKey = false, "时钟不对", t0.Add(2*time.Minute), "5e6f7a8b"
		wantCode(t, f.Store.SaveReplica(t.Context(), early), "")
		f.wantReplicas(t, early, late)
	}},
	{"are forgotten 25 hours after they were seen", func(t *testing.T, f *fixture) {
		gone, other := replica(t0), replica(t0.Add(time.Second))
		for _, r := range []auth.Replica{gone, other} {
			wantCode(t, f.Store.SaveReplica(t.Context(), r), "")
		}
		living := replica(t0.Add(auth.ReplicaRetention))
		wantCode(t, f.Store.SaveReplica(t.Context(), living), "")
		f.wantReplicas(t, other, living)
	}},
	{"keep their own row even if they are late", func(t *testing.T, f *fixture) {
		r := replica(t0)
		wantCode(t, f.Store.SaveReplica(t.Context(), r), "")
		r.SeenAt = t0.Add(2 * auth.ReplicaRetention)
		wantCode(t, f.Store.SaveReplica(t.Context(), r), "")
		f.wantReplicas(t, r)
	}},
}
