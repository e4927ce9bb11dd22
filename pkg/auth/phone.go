package auth

// ValidPhone reports whether s is a phone number in the form of E.164 (ITU-T
// E.164 §6): a plus sign, then the country code and the national number, 7 to 15
// digits in all, the first of them not zero.
func ValidPhone(s string) bool {
	if len(s) < 1+7 || len(s) > 1+15 || s[0] != '+' || s[1] == '0' {
		return false
	}
	for i := 1; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
