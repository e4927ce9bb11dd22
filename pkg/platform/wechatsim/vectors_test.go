package wechatsim

import (
	"encoding/base64"
	"strings"
	"testing"
)

// TestOfficialVectors compares the formulas with the examples in WeChat's documentation.
func TestOfficialVectors(t *testing.T) {
	t.Parallel()

	t.Run("the login state signature", func(t *testing.T) {
		t.Parallel()
		const key = "o0q0otL8aEzpcZL/FT9WsQ=="
		for message, want := range map[string]string{
			"":              "46e043c5525c2d817c44be603d30837a808a1d930d038f6fdc3e62a201fed128",
			`{"foo":"bar"}`: "654571f79995b2ce1e149e53c0a33dc39c0a74090db514261454e8dbe432aa0b",
		} {
			if got := hmacSignature(key, message); got != want {
				t.Errorf("hmacSignature() of %q = %s, want %s", message, got, want)
			}
		}
	})

	t.Run("the signature of raw data", func(t *testing.T) {
		t.Parallel()
		const rawData = `{"nickName":"Band","gender":1,"language":"zh_CN","city":"Guangzhou","province":"Guangdong",` +
			`"country":"CN","avatarUrl":"http://wx.qlogo.cn/mmopen/vi_32/1vZvI39NWFQ9XM4LtQpFrQJ1xlgZxx3w7bQxKARol6503Iuswjjn6nIGBiaycAjAtpujxyzYsrztuuICqIM5ibXQ/0"}`
		const want = "75e81ceda165f4ffa64f4068af58c64b8f54b88c"
		if got := rawSignature("HyVFkGl5F5OQWJZZaNzBBg==", rawData); got != want {
			t.Errorf("rawSignature() = %s, want %s", got, want)
		}
	})

	t.Run("the encryption of open data", func(t *testing.T) {
		t.Parallel()
		const plain = `{"openId":"oGZUI0egBJY1zhBYw2KhdUfwVJJE","nickName":"Band","gender":1,"language":"zh_CN",` +
			`"city":"Guangzhou","province":"Guangdong","country":"CN","avatarUrl":"http://wx.qlogo.cn/mmopen/vi_32/aSKcBBPpibyKNicHNTMM0qJVh8Kjgiak2AHWr8MHM4WgMEm7GFhsf8OYrySdbvAMvTsw3mo8ibKicsnfN5pRjl1p8HQ/0",` +
			`"unionId":"ocMvos6NjeKLIBqg5Mr9QjxrP1FA","watermark":{"timestamp":1477314187,"appid":"wx4f4bc4dec97d474b"}}`
		want := strings.Join([]string{
			"CiyLU1Aw2KjvrjMdj8YKliAjtP4gsMZMQmRzooG2xrDcvSnxIMXFufNstNGTyaGS",
			"9uT5geRa0W4oTOb1WT7fJlAC+oNPdbB+3hVbJSRgv+4lGOETKUQz6OYStslQ142d",
			"NCuabNPGBzlooOmB231qMM85d2/fV6ChevvXvQP8Hkue1poOFtnEtpyxVLW1zAo6",
			"/1Xx1COxFvrc2d7UL/lmHInNlxuacJXwu0fjpXfz/YqYzBIBzD6WUfTIF9GRHpOn",
			"/Hz7saL8xz+W//FRAUid1OksQaQx4CMs8LOddcQhULW4ucetDf96JcR3g0gfRK4P",
			"C7E/r7Z6xNrXd2UIeorGj5Ef7b1pJAYB6Y5anaHqZ9J6nKEBvB4DnNLIVWSgARns",
			"/8wR2SiRS7MNACwTyrGvt9ts8p12PKFdlqYTopNHR1Vf7XjfhQlVsAJdNiKdYmYV",
			"oKlaRv85IfVunYzO0IKXsyl7JCUjCpoG20f0a04COwfneQAGGwd5oa+T8yO5hzuy",
			"Db/XcxxmK01EpqOyuxINew==",
		}, "")
		key, err := base64.StdEncoding.DecodeString("tiihtNczf5v6AKRyjwEUhQ==")
		if err != nil {
			t.Fatal(err)
		}
		iv, err := base64.StdEncoding.DecodeString("r7BXXKkLb8qrSNn05n0qiA==")
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := encryptCBC(key, iv, []byte(plain))
		if err != nil {
			t.Fatal(err)
		}
		if got := base64.StdEncoding.EncodeToString(sealed); got != want {
			t.Errorf("encryptCBC() =\n%s, want\n%s", got, want)
		}
	})
}

func TestBounded(t *testing.T) {
	t.Parallel()

	t.Run("a full map drops the oldest entry", func(t *testing.T) {
		t.Parallel()
		b := newBounded[string, int](2)
		b.put("a", 1)
		b.put("b", 2)
		b.put("a", 3)
		b.put("c", 4)
		if _, kept := b.get("b"); kept {
			t.Error("b was not dropped")
		}
		if a, kept := b.get("a"); !kept || a != 3 || len(b.items) != 2 || b.order.Len() != 2 {
			t.Errorf("a = %d, %v, %d items, %d in order", a, kept, len(b.items), b.order.Len())
		}
	})

	t.Run("a full ring keeps the last in order", func(t *testing.T) {
		t.Parallel()
		r := newRing[int](3)
		for i := range 3 {
			r.add(i)
		}
		if got := r.all(); len(got) != 3 || got[0] != 0 || got[2] != 2 {
			t.Errorf("ring when full = %v", got)
		}
		r.add(3)
		if got := r.all(); len(got) != 3 || got[0] != 1 || got[2] != 3 {
			t.Errorf("ring after an overflow = %v", got)
		}
	})
}

// TestExpiredCodes checks that old codes are dropped.
func TestExpiredCodes(t *testing.T) {
	t.Parallel()
	clock := newClock()
	s := New(Config{Now: clock.now})
	for range 10 {
		s.NewCode("alice")
		s.NewPhoneCode("alice", "13800001002")
	}
	clock.advance(codeLife + codeMemory + 1)
	s.NewCode("alice")
	s.NewPhoneCode("alice", "13800001002")
	if codes, phones := len(s.codes.items), len(s.phoneCodes.items); codes != 1 || phones != 1 {
		t.Errorf("%d codes and %d phone codes are kept, want 1 and 1", codes, phones)
	}
}
