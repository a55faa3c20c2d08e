package api

import "net/http"

// Codes of errors that any request may get.
const (
	Malformed    = "malformed"     // the request is not of the form that the route accepts
	TimedOut     = "timed_out"     // the request did not come in time
	UnknownPath  = "unknown_path"  // this daemon has no such path
	WrongMethod  = "wrong_method"  // the path needs another method
	TooLarge     = "too_large"     // the body is larger than the daemon accepts
	WrongType    = "wrong_type"    // the body is not declared to be JSON
	WrongVersion = "wrong_version" // the server does not speak this protocol; set by a client
	WrongHost    = "wrong_host"    // the request is for a name or an address that the configuration does not allow
	Busy         = "busy"          // there is no room for it now; nothing was done
	Stopping     = "stopping"      // the daemon is stopping
	Internal     = "internal"      // something failed that is not the request's fault
)

// Codes of errors of one route. A read that fails has the code of the sensor's
// fault instead, as deploy/README.md lists them.
const (
	NotOurs       = "not_ours"       // the request is for another board
	UnknownSensor = "unknown_sensor" // the board has no sensor of that name
	NoHistory     = "no_history"     // nothing is kept of that sensor or quantity

	NotProvisioning = "not_provisioning" // the board does not get its certificate by provisioning

	BadConfiguration = "bad_configuration" // the configuration file is refused; problems says why
)

// Error says why a request did not succeed.
type Error struct {
	Code string `json:"code"`           // for programs: see the codes of package api, or a fault's
	Text string `json:"text"`           // what is wrong, lower case
	Hint string `json:"hint,omitempty"` // a sentence: what to do

	Problems []Problem `json:"problems,omitempty"` // of bad_configuration, by line: the first twenty, and one that gives the number of the others
}

// Problem is one problem of a configuration file.
type Problem struct {
	File   string `json:"file"`
	Line   int    `json:"line"`            // from 1; 0 if it is about no line, for example if the file cannot be read
	Key    string `json:"key,omitempty"`   // as in sensors[2].address; left out if it is about the file itself
	Reason string `json:"reason"`          // what is wrong, or what is wanted
	Value  string `json:"value,omitempty"` // what the file has
}

// Error returns what is wrong.
func (e *Error) Error() string { return e.Text }

// ErrorAnswer is the body of every answer that is not 200.
type ErrorAnswer struct {
	Error *Error `json:"error"`
}

// HTTPStatus returns the status of an answer with this error code. A code that is not one
// of this package is a sensor's fault: 502.
func HTTPStatus(code string) int {
	switch code {
	case Malformed:
		return http.StatusBadRequest
	case TimedOut:
		return http.StatusRequestTimeout
	case UnknownPath, UnknownSensor, NoHistory:
		return http.StatusNotFound
	case WrongMethod:
		return http.StatusMethodNotAllowed
	case NotOurs, NotProvisioning:
		return http.StatusConflict
	case WrongHost:
		return http.StatusMisdirectedRequest
	case BadConfiguration:
		return http.StatusUnprocessableEntity
	case TooLarge:
		return http.StatusRequestEntityTooLarge
	case WrongType:
		return http.StatusUnsupportedMediaType
	case Internal:
		return http.StatusInternalServerError
	case Busy, Stopping:
		return http.StatusServiceUnavailable
	}
	return http.StatusBadGateway
}
