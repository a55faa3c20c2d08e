package need

import (
	"fmt"
	"slices"

	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/config"
)

// suffix ends the default client ids of provisioning.
const suffix = "-provision"

const createTopic = "$aws/certificates/create-from-csr/json"

func registerTopic(template string) string {
	return "$aws/provisioning-templates/" + template + "/provision/json"
}

// provisioning adds what requests by these templates need.
func (n *needs) provisioning(connect Need, purpose string, templates ...string) {
	connect.Action, connect.For, connect.clean = awsiot.ActionConnect, purpose, true
	n.all = append(n.all, connect)
	topics := []string{createTopic}
	for _, t := range templates {
		if r := registerTopic(t); !slices.Contains(topics, r) {
			topics = append(topics, r)
		}
	}
	for _, t := range topics {
		n.add(awsiot.ActionPublish, "topic/"+t, purpose)
		for _, answer := range []string{"/accepted", "/rejected"} {
			n.add(awsiot.ActionSubscribe, "topicfilter/"+t+answer, purpose)
			n.add(awsiot.ActionReceive, "topic/"+t+answer, purpose)
		}
	}
}

// Renewal lists what a renewal asks for with the present certificate of the board. It connects
// with a client id of its own. nil: the certificate does not come by provisioning.
func Renewal(cfg *config.Config) []Need {
	p := cfg.Broker.Provisioning
	if !p.Enabled() {
		return nil
	}
	var n needs
	n.provisioning(Need{Resource: "client/" + p.ClientID}, "renewal of the certificate", p.RenewTemplate)
	return n.all
}

// Claim lists what provisioning asks for with the claim certificate, which is the same on all
// boards: a client id that comes of the thing's name is any that ends as it does. nil: the
// certificate does not come by provisioning.
func Claim(cfg *config.Config) []Need {
	p := cfg.Broker.Provisioning
	if !p.Enabled() {
		return nil
	}
	var n needs
	connect := Need{Resource: "client/" + p.ClientID}
	if p.ClientID == cfg.Thing+suffix {
		connect = Need{Resource: "client/*" + suffix, raw: true}
	}
	n.provisioning(connect, "provisioning by claim", p.Template, p.RenewTemplate)
	return n.all
}

// GenerateClaim makes the policy of the claim certificate, as a JSON document.
func GenerateClaim(cfg *config.Config, prefix string) ([]byte, error) {
	all := Claim(cfg)
	if all == nil {
		return nil, fmt.Errorf("%s has no broker.provisioning", cfg.File)
	}
	return document(grantsOf(all, nil, prefix)), nil
}

// SimulateClaim asks a policy for all that provisioning does with the claim certificate.
func SimulateClaim(cfg *config.Config, p *awsiot.Policy) (all []Answer) {
	by := &awsiot.Connection{ClientID: cfg.Broker.Provisioning.ClientID, Certificate: Certificate(cfg.Broker.Provisioning.ClaimCertificate)}
	for _, n := range Claim(cfg) {
		if n.raw {
			n.Resource, n.raw = "client/"+by.ClientID, false
		}
		all = append(all, answer(n, p.Decide(awsiot.Request{Action: n.Action, Resource: n.Resource, By: by})))
	}
	return all
}
