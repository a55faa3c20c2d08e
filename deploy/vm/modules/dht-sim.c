// SPDX-License-Identifier: GPL-2.0
/*
 * dht-sim: a simulated DHT22 behind an IIO device like that of the kernel's driver dht11,
 * which can only be had with the sensor's microseconds on a real line.
 *
 *   modprobe dht-sim
 *   /sys/module/dht_sim/parameters/
 *     temperature, humidity   in thousandths of a degree and of a percent, rw
 *     lost                    how many of the next reads fail with EIO, as when bits are lost, rw
 *
 * Source: Linux, drivers/iio/humidity/dht11.c: the device's name is the platform device's, the
 * channels are processed values, and a read takes some 25 ms.
 */
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/iio/iio.h>
#include <linux/module.h>
#include <linux/platform_device.h>

static int temperature = 21500;
module_param(temperature, int, 0644);
static int humidity = 48200;
module_param(humidity, int, 0644);
static int lost;
module_param(lost, int, 0644);

static struct platform_device *pdev;
static struct iio_dev *dev;

static int sim_read_raw(struct iio_dev *d, const struct iio_chan_spec *c, int *val, int *val2, long m)
{
	msleep(25);
	if (lost > 0) {
		lost--;
		return -EIO;
	}
	*val = c->type == IIO_TEMP ? temperature : humidity;
	return IIO_VAL_INT;
}

static const struct iio_info info = { .read_raw = sim_read_raw };

static const struct iio_chan_spec channels[] = {
	{ .type = IIO_TEMP, .info_mask_separate = BIT(IIO_CHAN_INFO_PROCESSED) },
	{ .type = IIO_HUMIDITYRELATIVE, .info_mask_separate = BIT(IIO_CHAN_INFO_PROCESSED) },
};

static int __init sim_init(void)
{
	int err;

	pdev = platform_device_register_simple("dht-sim", PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(pdev))
		return PTR_ERR(pdev);
	dev = iio_device_alloc(&pdev->dev, 0);
	err = -ENOMEM;
	if (!dev)
		goto device;
	dev->name = "dht11@11"; /* as the overlay names that of GPIO17 */
	dev->info = &info;
	dev->modes = INDIO_DIRECT_MODE;
	dev->channels = channels;
	dev->num_channels = ARRAY_SIZE(channels);
	err = iio_device_register(dev);
	if (!err)
		return 0;
	iio_device_free(dev);
device:
	platform_device_unregister(pdev);
	return err;
}

static void __exit sim_exit(void)
{
	iio_device_unregister(dev);
	iio_device_free(dev);
	platform_device_unregister(pdev);
}

module_init(sim_init);
module_exit(sim_exit);
MODULE_DESCRIPTION("Simulated DHT22");
MODULE_LICENSE("GPL");
