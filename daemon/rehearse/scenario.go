package rehearse

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"fieldpost/daemon/config"
	"fieldpost/daemon/regular"
)

// Fault is one fault of a scenario.
type Fault struct {
	Name   string        // one of [Faults]
	Sensor string        // of sensor_gone and chattering_input; "" is the first that has been read
	Bus    string        // of bus_stuck; "" is the first
	For    time.Duration // of broker_gone: how long the broker is away
	Rate   int           // of chattering_input: changes a second
	Orders int           // of order_storm
}

// Kind describes a fault that can be rehearsed.
type Kind struct {
	Name, Title string
	Keys        []string // its parameters
	run         func(*stage, Fault) []Outcome
}

// Faults lists the faults, in the order in which they are rehearsed.
func Faults() []Kind {
	return []Kind{
		{"sensor_gone", "a sensor's wire is cut and connected again", []string{"sensor"}, sensorGone},
		{"bus_stuck", "an I2C bus hangs, and is released", []string{"bus"}, busStuck},
		{"chattering_input", "an input changes all the time for two seconds", []string{"sensor", "rate"}, chatteringInput},
		{"broker_gone", "the broker cannot be reached for a day", []string{"for"}, brokerGone},
		{"disk_full", "the spool's file system has no room", nil, diskFull},
		{"clock_wrong", "the clock is not true at the start", nil, clockWrong},
		{"order_storm", "many orders at once, each of them twice", []string{"orders"}, orderStorm},
		{"power_cut", "the process is killed while messages wait, and starts again", nil, powerCut},
		{"certificate_expired", "the board's certificate has expired, and is replaced", nil, certificateExpired},
		{"stop", "the daemon is stopped while outputs are on", nil, stopped},
	}
}

// Scenario is what a rehearsal tries.
type Scenario []Fault

// Everything returns the scenario of all faults with their usual parameters.
func Everything() (all Scenario) {
	for _, k := range Faults() {
		all = append(all, usual(k.Name))
	}
	return all
}

func usual(name string) Fault { return Fault{Name: name, For: 24 * time.Hour, Rate: 500, Orders: 60} }

// mostScenario bounds a scenario's file, in bytes.
const mostScenario = 64 << 10

// ReadScenario reads a scenario from a YAML file:
//
//	faults:
//	  - fault: broker_gone
//	    for: 36h
//	  - fault: sensor_gone
//	    sensor: air
//
// The sensors and buses that it names must be those of the configuration. The error names the
// file, the line, the key, the reason and the value of each mistake.
func ReadScenario(path string, cfg *config.Config) (Scenario, error) {
	data, err := regular.Read(path, mostScenario)
	if err != nil {
		return nil, fmt.Errorf("read scenario: %w", err)
	}
	return parseScenario(path, data, cfg)
}

// scenarioParser collects the mistakes of a file.
type scenarioParser struct {
	file string
	cfg  *config.Config
	errs config.Errors
}

func (p *scenarioParser) refuse(n *config.Node, path, reason string) {
	e := &config.Error{File: p.file, Path: path, Reason: reason}
	if n != nil {
		e.Line = n.Line
		if n.Kind == config.ScalarNode {
			e.Value = n.Value
		}
	}
	p.errs = append(p.errs, e)
}

func parseScenario(file string, data []byte, cfg *config.Config) (Scenario, error) {
	p := &scenarioParser{file: file, cfg: cfg}
	root, err := config.ParseNode(data)
	switch {
	case errors.Is(err, io.EOF):
		p.refuse(nil, "", "is empty: want faults: and a list")
	case err != nil:
		p.refuse(nil, "", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err != nil {
		return nil, p.errs
	}
	all := p.document(root)
	if len(p.errs) > 0 {
		return nil, p.errs
	}
	return all, nil
}

// mostFaults bounds a scenario's list.
const mostFaults = 50

func (p *scenarioParser) document(root *config.Node) (all Scenario) {
	keys := p.mapping(root, "", "faults: and a list")
	list := keys["faults"]
	for key, n := range keys {
		if key != "faults" {
			p.refuse(n, key, "is not a key of a scenario: want faults")
		}
	}
	switch {
	case keys == nil:
	case list == nil:
		p.refuse(root, "faults", "is missing: want a list of faults")
	case list.Kind != config.SequenceNode || len(list.Content) == 0:
		p.refuse(list, "faults", "want a list of faults, each beginning with \"- fault: \"")
	case len(list.Content) > mostFaults:
		p.refuse(list, "faults", fmt.Sprintf("want at most %d faults", mostFaults))
	default:
		for i, n := range list.Content {
			all = append(all, p.fault(n, fmt.Sprintf("faults[%d]", i)))
		}
	}
	return all
}

// mapping returns a mapping's values by key.
func (p *scenarioParser) mapping(n *config.Node, path, want string) map[string]*config.Node {
	if n.Kind != config.MappingNode {
		p.refuse(n, path, "want "+want)
		return nil
	}
	keys := map[string]*config.Node{}
	for i := 0; i < len(n.Content); i += 2 {
		key := n.Content[i]
		if keys[key.Value] != nil {
			p.refuse(key, strings.TrimPrefix(path+"."+key.Value, "."), "is given twice")
		}
		keys[key.Value] = n.Content[i+1]
	}
	return keys
}

func (p *scenarioParser) fault(n *config.Node, path string) Fault {
	keys := p.mapping(n, path, "the keys of one fault")
	if keys == nil {
		return Fault{}
	}
	name := keys["fault"]
	if name == nil {
		p.refuse(n, path+".fault", "is missing")
		return Fault{}
	}
	i := slices.IndexFunc(Faults(), func(k Kind) bool { return k.Name == name.Value })
	if i < 0 {
		p.refuse(name, path+".fault", "is not a fault; `fieldpost rehearse --list` lists them")
		return Fault{}
	}
	f, kind := usual(name.Value), Faults()[i]
	for key, v := range keys {
		switch {
		case key == "fault":
		case !slices.Contains(kind.Keys, key):
			p.refuse(v, path+"."+key, fmt.Sprintf("is not a key of %s: it has %s", kind.Name, cmpList(kind.Keys)))
		case v.Kind != config.ScalarNode:
			p.refuse(v, path+"."+key, "want one value")
		default:
			if reason := p.set(&f, key, v.Value); reason != "" {
				p.refuse(v, path+"."+key, reason)
			}
		}
	}
	return f
}

func cmpList(keys []string) string {
	if len(keys) == 0 {
		return "none"
	}
	return strings.Join(keys, ", ")
}

// set sets a parameter. It returns what is wrong with the value; "" if nothing is.
func (p *scenarioParser) set(f *Fault, key, value string) (reason string) {
	switch key {
	case "sensor":
		for _, s := range p.cfg.Sensors {
			if s.Name == value {
				f.Sensor = value
				return ""
			}
		}
		return "the configuration has no sensor of that name"
	case "bus":
		for _, s := range p.cfg.Sensors {
			if s.Place().Bus == value && value != "" {
				f.Bus = value
				return ""
			}
		}
		return "the configuration has no sensor on such a bus"
	case "for":
		d, err := time.ParseDuration(value)
		if err != nil || d < time.Minute || d > 30*24*time.Hour {
			return "want a time from 1m to 720h"
		}
		f.For = d
		return ""
	}
	n, err := strconv.Atoi(value)
	most := 2000
	if key == "orders" {
		most = 500
	}
	if err != nil || n < 1 || n > most {
		return fmt.Sprintf("want a number from 1 to %d", most)
	}
	if key == "rate" {
		f.Rate = n
	} else {
		f.Orders = n
	}
	return ""
}
