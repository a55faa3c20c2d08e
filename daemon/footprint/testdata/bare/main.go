// Command bare is the least that sends ten readings a second with a delivery that is
// acknowledged: a ticker, paho.mqtt.golang, ten publishes at QoS 1. It keeps nothing,
// explains nothing and takes no orders; what fieldpost costs is held against it.
//
//	bare HOST:PORT CA CERTIFICATE KEY EVERY
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

func main() {
	if len(os.Args) != 6 {
		log.Fatal("usage: bare HOST:PORT CA CERTIFICATE KEY EVERY")
	}
	roots := x509.NewCertPool()
	ca, err := os.ReadFile(os.Args[2])
	if err != nil || !roots.AppendCertsFromPEM(ca) {
		log.Fatal("roots: ", err)
	}
	pair, err := tls.LoadX509KeyPair(os.Args[3], os.Args[4])
	if err != nil {
		log.Fatal(err)
	}
	every, err := time.ParseDuration(os.Args[5])
	if err != nil {
		log.Fatal(err)
	}
	o := mqtt.NewClientOptions().AddBroker("ssl://" + os.Args[1]).SetClientID("test-bare").SetCleanSession(false).
		SetTLSConfig(&tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}})
	c := mqtt.NewClient(o)
	if t := c.Connect(); t.Wait() && t.Error() != nil {
		log.Fatal(t.Error())
	}
	go func() { // until whoever started it is gone
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	seq := 0
	for now := range time.Tick(every) {
		seq++
		for n := range 10 {
			c.Publish("test/topic", 1, false, fmt.Appendf(nil, `{"thing":"thing-greenhouse","sensor":"air-%d","run":7,"seq":%d,"time":"%s","temperature":21.53}`,
				n, seq, now.UTC().Format("2006-01-02T15:04:05.000Z")))
		}
	}
}
