#!/bin/sh
# Run a command with a part of one core: part_of_a_core.sh 40 COMMAND... gives it 40 %. Needs root, and the CPU
# controller of cgroups version 1; with systemd, `systemd-run --scope -p CPUQuota=40%` does the same. The group is empty
# when the command has ended, and stays: `rmdir /sys/fs/cgroup/cpu/beliefstream-*`.
set -e
group=/sys/fs/cgroup/cpu/beliefstream-$$
mkdir "$group"
echo 50000 > "$group/cpu.cfs_period_us"
echo $(($1 * 500)) > "$group/cpu.cfs_quota_us"
echo $$ > "$group/cgroup.procs"
shift
exec "$@"
