package wechatsim

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha1" // WeChat's choice for rawData
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

// checkSession serves GET /wxa/checksession.
func (s *Simulator) checkSession(c *call) reply {
	if errcode := s.checkSignature(c, errSignature); errcode != 0 {
		return refuse(errcode)
	}
	return reply{body: ok}
}

type resetBody struct {
	okBody
	OpenID     string `json:"openid"`
	SessionKey string `json:"session_key"`
}

// resetSessionKey serves GET /wxa/resetusersessionkey.
func (s *Simulator) resetSessionKey(c *call) reply {
	if errcode := s.checkSignature(c, errNoSessionKey); errcode != 0 {
		return refuse(errcode)
	}
	return reply{body: resetBody{ok, c.openID, s.newSessionKey(c.appID, c.openID)}}
}

// checkSignature returns the errcode for a call that is signed with a user's session_key,
// or 0. withoutKey is the errcode for a user without a key.
func (s *Simulator) checkSignature(c *call, withoutKey int) int {
	if errcode := s.checkToken(c); errcode != 0 {
		return errcode
	}
	if c.openID == "" {
		return errInvalidOpenID
	}
	if c.sigMethod != "hmac_sha256" {
		return errSignatureMethod
	}
	session, known := s.sessions.get(account{c.appID, c.openID})
	if !known {
		return withoutKey
	}
	if !hmac.Equal([]byte(c.signature), []byte(hmacSignature(session.key, ""))) {
		return errSignature
	}
	return 0
}

// hmacSignature signs message as in WeChat's documentation: the key is session_key as
// text, not decoded.
func hmacSignature(sessionKey, message string) string {
	mac := hmac.New(sha256.New, []byte(sessionKey))
	mac.Write([]byte(message))
	return hex.EncodeToString(mac.Sum(nil))
}

// rawSignature returns the signature for rawData.
func rawSignature(sessionKey, rawData string) string {
	sum := sha1.Sum([]byte(rawData + sessionKey))
	return hex.EncodeToString(sum[:])
}

// Encrypted is open data as the mini-program runtime returns it. Its JSON names are the
// runtime's.
type Encrypted struct {
	EncryptedData string `json:"encryptedData"`
	IV            string `json:"iv"`
	RawData       string `json:"rawData"`
	Signature     string `json:"signature"`
}

// EncryptedData encrypts and signs data, a JSON object, with the session_key of the user
// in the app. The plaintext gets a watermark with the appid and the time unless data has
// one. It returns an error if the user has not logged in to the app.
func (s *Simulator) EncryptedData(appID, user string, data json.RawMessage) (Encrypted, error) {
	s.mu.Lock()
	session, known := s.sessions.get(account{appID, OpenID(appID, user)})
	now := s.now()
	s.mu.Unlock()
	if !known {
		return Encrypted{}, fmt.Errorf("user %q has no session_key in app %q: exchange a code of this user first", user, appID)
	}
	var fields map[string]json.RawMessage
	var raw bytes.Buffer
	if json.Unmarshal(data, &fields) != nil || fields == nil || json.Compact(&raw, data) != nil {
		return Encrypted{}, errors.New(`"data" must be a JSON object, such as {"nickName":"Alice"}`)
	}
	plain := raw.String()
	if _, marked := fields["watermark"]; !marked {
		// Inserted into the text, to keep the caller's order of the fields.
		plain = plain[:len(plain)-1]
		if len(fields) > 0 {
			plain += ","
		}
		plain += `"watermark":` + string(encodeJSON(watermark{now.Unix(), appID})) + "}"
	}
	key, err := base64.StdEncoding.DecodeString(session.key)
	if err != nil {
		return Encrypted{}, fmt.Errorf("session_key is not base64: %w", err)
	}
	iv := randomBytes(aes.BlockSize)
	sealed, err := encryptCBC(key, iv, []byte(plain))
	if err != nil {
		return Encrypted{}, err
	}
	return Encrypted{
		EncryptedData: base64.StdEncoding.EncodeToString(sealed),
		IV:            base64.StdEncoding.EncodeToString(iv),
		RawData:       raw.String(),
		Signature:     rawSignature(session.key, raw.String()),
	}, nil
}

// encryptCBC is AES-CBC with PKCS #7 padding.
func encryptCBC(key, iv, plain []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	pad := aes.BlockSize - len(plain)%aes.BlockSize
	padded := append(bytes.Clone(plain), bytes.Repeat([]byte{byte(pad)}, pad)...)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(padded, padded)
	return padded, nil
}
