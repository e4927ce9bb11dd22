package auth

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxDeviceLen is how long a device label may be, in characters.
const MaxDeviceLen = 64

// CleanDevice returns the device label trimmed of white space, or an
// [InvalidRequest] error when it is not valid UTF-8, is longer than
// [MaxDeviceLen] characters, or holds control characters.
func CleanDevice(s string) (string, error) {
	// Bound the work before looking at the text.
	if len(s) > MaxDeviceLen*utf8.UTFMax {
		return "", Invalid("device has at most 64 characters")
	}
	if !CleanText(s) {
		return "", Invalid("device is UTF-8 text without control characters")
	}
	s = strings.TrimSpace(s)
	if utf8.RuneCountInString(s) > MaxDeviceLen {
		return "", Invalid("device has at most 64 characters")
	}
	return s, nil
}

// CleanText reports whether s is valid UTF-8 without control characters (NUL
// among them) and without the invisible ones that reorder text on a screen.
func CleanText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)
	})
}
