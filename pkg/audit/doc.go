// Package audit owns the audit log as it is stored and read: what stays of an event for
// ever, what an erasure deletes, and the queries.
//
// It does not own the events ([auth.AuditEvent]) nor their names: use cases make them, and
// stores write them in the transaction of the change that they describe.
//
// # Personal values
//
// The details that [auth.PersonalDetails] names stand apart, each with a random salt. The
// event keeps a commitment, HMAC-SHA-256 under the salt. An erasure deletes value and salt:
// the event stays as it was written, and the commitment reveals nothing.
package audit
