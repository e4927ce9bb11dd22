package wechatsim

import "time"

const (
	tokenLife = 2 * time.Hour
	// tokenOverlap is how long before its end a token is replaced; during this time both
	// work.
	tokenOverlap = 5 * time.Minute
	// forcedPerDay and forcedEvery bound force_refresh.
	forcedPerDay = 20
	forcedEvery  = 30 * time.Second
)

// beijing is the time zone of WeChat's daily quotas.
var beijing = time.FixedZone("UTC+8", 8*60*60)

// accessToken is an issued token.
type accessToken struct {
	appID      string
	expires    time.Time
	superseded bool
}

// tokenHolder is an app's state at stable_token.
type tokenHolder struct {
	current    string
	forcedAt   time.Time
	forcedDay  string
	forcedRuns int
}

type tokenBody struct {
	AccessToken string `json:"access_token"`
	ExpiresIn   int64  `json:"expires_in"`
}

// stableToken serves POST /cgi-bin/stable_token. A forced refresh too soon after the last
// one returns the current token unchanged.
func (s *Simulator) stableToken(c *call) reply {
	switch {
	case c.unreadable:
		return refuse(errDataFormat)
	case c.grantType != "client_credential":
		return refuse(errGrantType)
	case c.appID == "":
		return refuse(errAppIDMissing)
	case c.secret == "":
		return refuse(errSecretMissing)
	}
	if errcode := s.checkApp(c.appID, c.secret); errcode != 0 {
		return refuse(errcode)
	}
	holder, known := s.holders.get(c.appID)
	if !known {
		holder = new(tokenHolder)
		s.holders.put(c.appID, holder)
	}
	current, live := s.tokens.get(holder.current)
	live = live && !current.superseded && current.expires.Sub(c.now) > tokenOverlap
	if c.forceRefresh && (holder.forcedAt.IsZero() || c.now.Sub(holder.forcedAt) >= forcedEvery) {
		if day := c.now.In(beijing).Format(time.DateOnly); holder.forcedDay != day {
			holder.forcedDay, holder.forcedRuns = day, 0
		}
		if holder.forcedRuns >= forcedPerDay {
			return refuse(errDailyQuota)
		}
		holder.forcedRuns++
		holder.forcedAt = c.now
		if current != nil {
			current.superseded = true
		}
		live = false
	}
	if !live {
		holder.current = "88_" + randomText(133)
		current = &accessToken{appID: c.appID, expires: c.now.Add(tokenLife)}
		s.tokens.put(holder.current, current)
	}
	return reply{body: tokenBody{holder.current, int64(current.expires.Sub(c.now) / time.Second)}}
}

// appOfToken returns the app of an access token in any state.
func (s *Simulator) appOfToken(token string) string {
	if t, known := s.tokens.get(token); known {
		return t.appID
	}
	return ""
}

// checkToken returns the errcode for the call's access token, or 0.
func (s *Simulator) checkToken(c *call) int {
	token, known := s.tokens.get(c.accessToken)
	switch {
	case c.accessToken == "":
		return errTokenMissing
	case len(c.accessToken) < 32 || !isText(c.accessToken, true):
		return errMalformedToken
	case !known, token.superseded:
		return errDeadToken
	case !c.now.Before(token.expires):
		return errTokenExpired
	}
	return 0
}
