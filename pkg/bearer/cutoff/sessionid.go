package cutoff

import (
	"encoding/hex"
	"strconv"
)

// dashes are the positions of the dashes in the text of a UUID.
const dash1, dash2, dash3, dash4, sessionIDLen = 8, 13, 18, 23, 36

// parseSessionID returns the 16 bytes of a UUID in its usual text, in lower case. Any
// other text is refused, so no two texts have the same bytes.
func parseSessionID(s string) (id [16]byte, ok bool) {
	if len(s) != sessionIDLen || s[dash1] != '-' || s[dash2] != '-' || s[dash3] != '-' || s[dash4] != '-' {
		return id, false
	}
	wrong := byte(0)
	for i, at := range sessionIDBytes {
		high, low := hexDigits[s[at]], hexDigits[s[at+1]]
		wrong |= high | low
		id[i] = high<<4 | low
	}
	if wrong > 15 {
		return id, false
	}
	return id, true
}

// sessionIDBytes are the positions of the bytes in the text.
var sessionIDBytes = [16]uint8{0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34}

// hexDigits has the value of each lower-case digit, and 255 for other bytes.
var hexDigits = func() (values [256]byte) {
	for i := range values {
		values[i] = 255
	}
	for i, c := range []byte("0123456789abcdef") {
		values[c] = byte(i)
	}
	return values
}()

// appendSessionID appends the text that parseSessionID reads.
func appendSessionID(dst []byte, id [16]byte) []byte {
	for i, part := range [][]byte{id[:4], id[4:6], id[6:8], id[8:10], id[10:]} {
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, part)
	}
	return dst
}

// AppendSession appends the event of a session's cutoff in wire format, as [AppendEvent]
// does with [Cutoff.Event], but without an allocation. The session is a UUID's 16 bytes.
// The id is the event's, which must have no line break and no NUL, or empty.
func AppendSession(dst []byte, session [16]byte, ver int64, id []byte) []byte {
	dst = append(dst, "event: "+EventCutoff+"\n"...)
	if len(id) > 0 {
		dst = append(dst, "id: "...)
		dst = append(dst, id...)
		dst = append(dst, '\n')
	}
	dst = append(dst, `data: {"kind":"session","session":"`...)
	dst = appendSessionID(dst, session)
	dst = append(dst, '"')
	if ver != 0 {
		dst = append(dst, `,"ver":`...)
		dst = strconv.AppendInt(dst, ver, 10)
	}
	return append(dst, "}\n\n"...)
}
