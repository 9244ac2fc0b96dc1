#!/usr/bin/env bash
# Makes this Debian machine a SLURM cluster of one node, and tries the benchmark's queue on it at smoke size: a job that
# is preempted in the middle is queued again and goes on. For a machine or container that can be thrown away: run as root.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
runs=${1:-runs/slurm-smoke}
[ "$(id -u)" = 0 ] || { echo "error: installing SLURM needs root" >&2; exit 2; }

command -v slurmctld slurmd sbatch munged >/dev/null ||
    { apt-get update -q && apt-get install -yq --no-install-recommends slurmctld slurmd slurm-client munge; }

node=$(hostname -s)
state=/var/lib/slurm-local
mkdir -p "$state" /run/munge /etc/slurm
chown munge: /run/munge
cat >/etc/slurm/slurm.conf <<CONF
ClusterName=local
SlurmctldHost=$node
SlurmUser=root
AuthType=auth/munge
StateSaveLocation=$state
SlurmdSpoolDir=$state/spool
SlurmctldPidFile=$state/slurmctld.pid
SlurmdPidFile=$state/slurmd.pid
SlurmctldLogFile=$state/slurmctld.log
SlurmdLogFile=$state/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
JobRequeue=1
MinJobAge=2
SchedulerParameters=requeue_delay=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
NodeName=$node CPUs=$(nproc) State=UNKNOWN
PartitionName=low Nodes=$node Default=YES PriorityTier=1 GraceTime=60 PreemptMode=REQUEUE State=UP
PartitionName=high Nodes=$node PriorityTier=2 PreemptMode=OFF State=UP
CONF
pgrep -x munged >/dev/null || runuser -u munge -- munged
pgrep -x slurmctld >/dev/null || slurmctld
pgrep -x slurmd >/dev/null || slurmd
for _ in $(seq 60); do sinfo -h -o %T | grep -q idle && break; sleep 1; done
sinfo

queue=("$python" -m adamas.cli benchmark games=Breakout,Pong seeds=1 preset=smoke device=cpu final_epochs=20 "runs=$runs")
export PYTHONPATH=src
"${queue[@]}" --slurm gpus_per_node=0 cpus_per_task=1 timeout_min=60 slurm_partition=low
until ls "$runs"/*/Breakout/*/checkpoints/*.pt >/dev/null 2>&1; do sleep 1; done
echo "a job of a higher partition takes the whole machine"
sbatch --partition=high --exclusive --output=/dev/null --wrap "sleep 5"
for _ in $(seq 10); do squeue -h -o "%i %j %P %T"; sleep 1; done
"${queue[@]}" --status
until [ -z "$(squeue -h)" ]; do sleep 2; done
"${queue[@]}" --status
grep -h -E "stopped and saved|^done" "$runs"/logs/*.log
