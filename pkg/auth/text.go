package auth

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxDeviceLen is the maximum length of a device label, in characters.
const MaxDeviceLen = 64

// CleanDevice returns the device label trimmed of white space, or an
// [InvalidRequest] error when it is not valid UTF-8, is longer than
// [MaxDeviceLen] characters, or holds control characters.
func CleanDevice(s string) (string, error) {
	// Bound the work before looking at the text.
	if len(s) > MaxDeviceLen*utf8.UTFMax {
		return "", Invalid("device must have at most 64 characters")
	}
	if !CleanText(s) {
		return "", Invalid("device must be UTF-8 text without control characters")
	}
	s = strings.TrimSpace(s)
	if utf8.RuneCountInString(s) > MaxDeviceLen {
		return "", Invalid("device must have at most 64 characters")
	}
	return s, nil
}

// Invisible reports whether r has no shape of its own: direction marks, zero-width
// spaces and joiners, byte-order marks, soft hyphens, variation selectors and the
// like. These are the characters of Default_Ignorable_Code_Point (Unicode Standard
// section 5.21), derived as DerivedCoreProperties.txt derives them.
func Invisible(r rune) bool {
	switch {
	case '\ufff9' <= r && r <= '\ufffb', 0x13430 <= r && r <= 0x13440, unicode.Is(unicode.White_Space, r),
		unicode.Is(unicode.Prepended_Concatenation_Mark, r):
		return false
	}
	return unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Cf, unicode.Variation_Selector)
}

// StripMarks returns s without the invisible characters that are often copied with
// text: direction marks, zero-width spaces, byte-order marks, soft hyphens.
// Joiners and variation selectors stay, because they change how text looks.
func StripMarks(s string) string {
	return strings.Map(func(r rune) rune {
		const zeroWidthNonJoiner, zeroWidthJoiner = '\u200c', '\u200d'
		if r != zeroWidthNonJoiner && r != zeroWidthJoiner && Invisible(r) && !unicode.Is(unicode.Variation_Selector, r) {
			return -1
		}
		return r
	}, s)
}

// CleanText reports whether s is valid UTF-8 without control characters (including NUL)
// and without the invisible characters that reorder text on a screen.
func CleanText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)
	})
}
