package api

import (
	_ "embed"
	"net/http"
)

// Route is one kind of request to the daemon.
type Route struct {
	Name     string // its operationId in the OpenAPI document
	Method   string
	Path     string
	Does     string // one line: what it does
	Request  any    // a value of the type in the body; nil means no body
	Query    any    // a value of the type in the query, a struct of strings; nil means that the query is ignored
	Optional bool   // the body may be left out
	Response any    // a value of the type in a 200 answer; nil means any JSON object
	Media    string // the media type of a 200 answer that is text; "" means JSON
	Statuses []int  // further statuses besides 200 and those of every route; see [Route.Answers]
}

// The routes. A path keeps its meaning: keys may be added to its requests and answers, and
// another meaning gets another version.
var (
	GetStatus = Route{
		Name: "getStatus", Method: http.MethodGet, Path: "/v1/status", Response: Status{},
		Does: "The state of the daemon, as `fieldpost status --json` prints it.",
	}
	PostOrder = Route{
		Name: "postOrder", Method: http.MethodPost, Path: "/v1/orders", Request: Order{}, Response: OrderAnswer{},
		Does:     "Give an order to an output, through the same checks as over MQTT. A refusal is an answer too, so its status is 200.",
		Statuses: []int{http.StatusConflict},
	}
	PostRead = Route{
		Name: "postRead", Method: http.MethodPost, Path: "/v1/read", Request: ReadRequest{}, Response: Reading{},
		Does:     "Read a sensor now, outside its schedule.",
		Statuses: []int{http.StatusNotFound, http.StatusConflict, http.StatusBadGateway},
	}
	PostReconnect = Route{
		Name: "postReconnect", Method: http.MethodPost, Path: "/v1/reconnect", Request: ReconnectRequest{}, Optional: true, Response: ReconnectAnswer{},
		Does:     "Connect to the broker now; the answer comes when the attempt has ended.",
		Statuses: []int{http.StatusConflict},
	}
	PostRenew = Route{
		Name: "postRenew", Method: http.MethodPost, Path: "/v1/renew", Request: RenewRequest{}, Optional: true, Response: RenewAnswer{},
		Does:     "Renew the certificate by provisioning, or continue a renewal that is under way; the answer comes when the new certificate is in use. If that fails, the error has the code of the fault, and the present certificate stays in use.",
		Statuses: []int{http.StatusConflict, http.StatusBadGateway},
	}
	PostReload = Route{
		Name: "postReload", Method: http.MethodPost, Path: "/v1/reload", Response: Changes{},
		Does:     "Read the configuration file again and use it; the answer comes when that is done. A wrong configuration is refused as a whole, and the previous one stays in use.",
		Statuses: []int{http.StatusUnprocessableEntity},
	}
	PostDiff = Route{
		Name: "postDiff", Method: http.MethodPost, Path: "/v1/diff", Response: Changes{},
		Does:     "Read the configuration file and say what a reload would change, or why it would be refused. Nothing is changed.",
		Statuses: []int{http.StatusUnprocessableEntity},
	}
	GetMetrics = Route{
		Name: "getMetrics", Method: http.MethodGet, Path: "/metrics", Response: "", Media: "text/plain; version=0.0.4; charset=utf-8",
		Does: "The state of the daemon in Prometheus's text format; deploy/README.md lists the metrics.",
	}
	GetHistory = Route{
		Name: "getHistory", Method: http.MethodGet, Path: "/v1/history", Query: HistoryQuery{}, Response: History{},
		Does:     "Past readings of a sensor, thinned, or a list of what there is. How far back they reach says history in the configuration.",
		Statuses: []int{http.StatusNotFound},
	}
	GetDocument = Route{
		Name: "getDocument", Method: http.MethodGet, Path: "/openapi.json",
		Does: "This document.",
	}

	// Routes are all of them.
	Routes = []Route{GetStatus, PostOrder, PostRead, PostReconnect, PostRenew, PostReload, PostDiff, GetMetrics, GetHistory, GetDocument}
)

// Answers returns the statuses that the route may answer with: first those of every
// route, then its own.
func (r Route) Answers() []int {
	all := []int{http.StatusOK, http.StatusBadRequest, http.StatusInternalServerError, http.StatusServiceUnavailable}
	if r.Request != nil {
		all = append(all, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	return append(all, r.Statuses...)
}

// Document is the OpenAPI 3.1 document of the routes, in JSON. It is made from
// this package: `make docs`.
//
//go:embed openapi.json
var Document []byte
