// SPDX-License-Identifier: GPL-2.0
/*
 * pwm-sim: a simulated PWM chip with two channels, which takes every setting. What is
 * applied is in the kernel's record (trace event pwm:pwm_apply).
 *
 *   modprobe pwm-sim
 *   /sys/class/pwm/pwmchipN   its device is pwm-sim
 */
#include <linux/err.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/pwm.h>

static struct platform_device *pdev;
static struct pwm_chip *chip;
static struct pwm_state set[2];

static int sim_apply(struct pwm_chip *c, struct pwm_device *pwm, const struct pwm_state *state)
{
	set[pwm->hwpwm] = *state;
	return 0;
}

static int sim_get_state(struct pwm_chip *c, struct pwm_device *pwm, struct pwm_state *state)
{
	*state = set[pwm->hwpwm];
	return 0;
}

static const struct pwm_ops ops = { .apply = sim_apply, .get_state = sim_get_state };

static int __init sim_init(void)
{
	int err;

	pdev = platform_device_register_simple("pwm-sim", PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(pdev))
		return PTR_ERR(pdev);
	chip = pwmchip_alloc(&pdev->dev, ARRAY_SIZE(set), 0);
	err = PTR_ERR_OR_ZERO(chip);
	if (err)
		goto device;
	chip->ops = &ops;
	err = pwmchip_add(chip);
	if (!err)
		return 0;
	pwmchip_put(chip);
device:
	platform_device_unregister(pdev);
	return err;
}

static void __exit sim_exit(void)
{
	pwmchip_remove(chip);
	pwmchip_put(chip);
	platform_device_unregister(pdev);
}

module_init(sim_init);
module_exit(sim_exit);
MODULE_DESCRIPTION("simulated PWM chip");
MODULE_LICENSE("GPL");
