package access

import "slices"

// Places are the files and directories that a daemon relies on; "" is none.
type Places struct {
	Configuration, CA, Certificate, Key string // files
	Password                            string // a file
	Token                               string // the file with the token of the page
	ClaimCertificate, ClaimKey          string // files
	Runtime                             string // the directory of the crash record
	Spool                               string // the spool's directory
}

// Subjects are the keys of [Found], in the order in which they are reported.
var Subjects = []string{"configuration", "broker", "runtime directory", "spool"}

// Found is what is open to other users, by subject.
type Found map[string][]Open

// Look checks all places. Any goroutine; it waits for the disk.
func Look(p Places) Found {
	found := Found{}
	add := func(subject string, all []Open) {
		for _, o := range all {
			if !slices.Contains(found[subject], o) {
				found[subject] = append(found[subject], o)
			}
		}
	}
	add("configuration", File(p.Configuration))
	add("configuration", Secret(p.Token))
	add("broker", Secret(p.Key))
	add("broker", Secret(p.Password))
	add("broker", File(p.Certificate))
	add("broker", File(p.CA))
	add("broker", Secret(p.ClaimKey))
	add("broker", File(p.ClaimCertificate))
	add("runtime directory", Directory(p.Runtime))
	add("spool", Directory(p.Spool))
	return found
}
