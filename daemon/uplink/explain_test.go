package uplink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"fieldpost/daemon/health"
)

func TestExplain(t *testing.T) {
	at := Disconnect{Endpoint: "broker.test:8883", ClientID: "board"}
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	ats := at
	ats.Endpoint = "abc.iot.eu-west-1.amazonaws.com:8883"
	for _, c := range []struct {
		err  error
		at   Disconnect
		code health.Code
		says string
	}{
		{dial(&net.DNSError{Name: "broker.test", IsNotFound: true}), at, health.NetworkDown, `the name "broker.test" does not exist`},
		{dial(&net.DNSError{Name: "broker.test", IsTimeout: true}), at, health.NetworkDown, `the name "broker.test" cannot be resolved`},
		{dial(os.NewSyscallError("connect", syscall.ECONNREFUSED)), at, health.NetworkDown, "nothing listens at broker.test:8883"},
		{dial(os.NewSyscallError("connect", syscall.ENETUNREACH)), at, health.NetworkDown, "there is no route to broker.test:8883"},
		{dial(os.NewSyscallError("connect", syscall.EHOSTUNREACH)), at, health.NetworkDown, "there is no route to"},
		{dial(os.ErrDeadlineExceeded), at, health.NetworkDown, "did not answer in time"},
		{context.DeadlineExceeded, at, health.NetworkDown, "did not answer in time"},
		{os.NewSyscallError("read", syscall.ETIMEDOUT), Disconnect{Phase: Idle, Endpoint: "e:1"}, health.NetworkDown, "e:1 did not answer in time"},
		{errNoPing, at, health.NetworkDown, "has fallen silent"},
		{errors.New("something new"), at, health.NetworkDown, "the connection to broker.test:8883 broke: something new"},
		{io.EOF, Disconnect{Phase: Handshaking, Endpoint: "e:1"}, health.NetworkDown, "8883"},
		{os.NewSyscallError("read", syscall.ECONNRESET), Disconnect{Phase: Connecting, Repeated: true}, health.CertificateRejected, "probably because of our certificate"},
		{os.NewSyscallError("read", syscall.ECONNRESET), Disconnect{Phase: Connecting}, health.NetworkDown, "If it stays so, it is probably our certificate"},
		{io.EOF, Disconnect{Phase: Connecting, ClientID: "board"}, health.ConnectRefused, `"board"`},
		{&connackRefusal{7}, at, health.ConnectRefused, "client/board"},
		{io.EOF, Disconnect{Phase: Subscribing, Topic: "a/+", Repeated: true}, health.SubscribeDenied, "topicfilter/a/+"},
		{io.EOF, Disconnect{Phase: Subscribing, Topic: "a/+"}, health.NetworkDown, "If it stays so, the broker does not allow it: On AWS IoT Core allow iot:Subscribe on topicfilter/a/+"},
		{os.NewSyscallError("read", syscall.ECONNRESET), Disconnect{Phase: Subscribing, Topic: "a"}, health.NetworkDown, `instead of answering the subscription to "a"`},
		{io.EOF, Disconnect{Phase: Publishing, Topic: "a", Repeated: true}, health.PublishDenied, "topic/a"},
		{io.EOF, Disconnect{Phase: Publishing, Topic: "a"}, health.NetworkDown, "before it acknowledged"},
		{io.EOF, Disconnect{Phase: Idle, Repeated: true, SessionPresent: true, ClientID: "board"}, health.DuplicateClient, `"board"`},
		{io.EOF, Disconnect{Phase: Idle, Repeated: true}, health.NetworkDown, "ended the connection"},
		{errNoAck, Disconnect{Phase: Publishing}, health.NoAcknowledgement, "did not acknowledge"},
		{fmt.Errorf("read packet: %w", errProtocol), at, health.NetworkDown, "not MQTT"},
		{&net.OpError{Op: "remote error", Err: errors.New("tls: protocol version not supported")}, at, health.TLSTooOld, "refuses TLS 1.2 and 1.3"},
		{&net.OpError{Op: "remote error", Err: errors.New("tls: insufficient security level")}, at, health.TLSTooOld, "no cipher in common"},
		{errors.New("tls: server selected unsupported protocol version 302"), Disconnect{Phase: Handshaking}, health.TLSTooOld, "it offers TLS 1.1"},
		{errors.New("tls: server selected unsupported protocol version 300"), Disconnect{Phase: Handshaking}, health.TLSTooOld, "it offers SSLv3"},
		{&net.OpError{Op: "remote error", Err: errors.New("tls: unrecognized name")}, at, health.ServerUntrusted, `"broker.test"`},
		{&net.OpError{Op: "remote error", Err: errors.New("tls: internal error")}, at, health.NetworkDown, "broke off"},
		{&net.OpError{Op: "remote error", Err: errors.New("tls: revoked certificate")}, at, health.CertificateRejected, "revoked"},
		{&net.OpError{Op: "remote error", Err: errors.New("tls: bad certificate")}, at, health.CertificateRejected, "active and registered"},
	} {
		e := Explain(c.err, c.at)
		checkSays(t, e, c.code, c.says)
		if !errors.Is(e, c.err) {
			t.Errorf("%v does not wrap what was seen", e)
		}
		if again := Explain(fmt.Errorf("wrapped: %w", e), Disconnect{}); again != e {
			t.Errorf("explained twice: %v", again)
		}
	}
	if e := Explain(nil, at); e != nil {
		t.Errorf("nothing is explained as %v", e)
	}
}
