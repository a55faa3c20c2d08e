package board

import (
	"os"

	"github.com/warthog618/go-gpiocdev/uapi"
)

// gpioKernel is everything that lines ask of the kernel's GPIO character devices. Tests
// replace it. The requests are those of version 2 of the interface (Linux 5.10 and later,
// linux/gpio.h).
//
// Only the uapi package of go-gpiocdev is used. The rest of v0.9.1 ignores the size of
// the event buffer, cannot adopt a handle, and keeps a system thread in epoll_wait for
// every line with edges.
type gpioKernel interface {
	open(path string) (*os.File, error)
	chip(chip *os.File) (uapi.ChipInfo, error)
	info(chip *os.File, offset int) (uapi.LineInfoV2, error)
	request(chip *os.File, r *uapi.LineRequest) error
	get(line *os.File) (uapi.LineValues, error)
	set(line *os.File, v uapi.LineValues) error
	configure(line *os.File, c uapi.LineConfig) error
}

// charDev is the real gpioKernel.
type charDev struct{}

func (charDev) open(path string) (*os.File, error) { return os.Open(path) }

func (charDev) chip(chip *os.File) (info uapi.ChipInfo, err error) {
	err = control(chip, func(fd uintptr) (err error) {
		info, err = uapi.GetChipInfo(fd)
		return err
	})
	return info, err
}

func (charDev) info(chip *os.File, offset int) (info uapi.LineInfoV2, err error) {
	err = control(chip, func(fd uintptr) (err error) {
		info, err = uapi.GetLineInfoV2(fd, offset)
		return err
	})
	return info, err
}

func (charDev) request(chip *os.File, r *uapi.LineRequest) error {
	return control(chip, func(fd uintptr) error { return uapi.GetLine(fd, r) })
}

func (charDev) get(line *os.File) (uapi.LineValues, error) {
	v := uapi.LineValues{Mask: 1}
	err := control(line, func(fd uintptr) error { return uapi.GetLineValuesV2(fd, &v) })
	return v, err
}

func (charDev) set(line *os.File, v uapi.LineValues) error {
	return control(line, func(fd uintptr) error { return uapi.SetLineValuesV2(fd, v) })
}

func (charDev) configure(line *os.File, c uapi.LineConfig) error {
	return control(line, func(fd uintptr) error { return uapi.SetLineConfigV2(fd, &c) })
}
