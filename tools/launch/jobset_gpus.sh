#!/usr/bin/env bash
# Kubernetes JobSet on GPU nodes (GKE's labels): one pod, with one process, for each node.
#
#     bash tools/launch/jobset_gpus.sh            or with --dry-run=server, to have it checked
#
# Needs JobSet 0.6 or later in the cluster, a container image with thyrojax[cuda] in it, and a volume
# that all nodes can write.
set -eu

# ---- EDIT 1 of 2: the machines.
name=thyrojax
image=IMAGE
accelerator=nvidia-h100-80gb
nodes=8
gpus=8 # of each node
grace=15 # seconds that a pod is given to end; GKE gives 15 where a Spot node goes

# ---- EDIT 2 of 2: the run. Paths are in the shared volume, a claim of that name.
volume=thyrojax
data=data/nodules
run=runs/nodules
options="guan2019 --feed resident --dtype bfloat16 --batch-size 2048 --log-every 100"

# ---- Nothing to edit below.
kubectl apply "$@" -f - <<YAML
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: $name
spec:
  failurePolicy:
    # 143 stopped, 75 lost another process, an evicted pod: all pods start again.
    maxRestarts: 100
    rules:
      # 1 a fault of ours, 2 bad input: starting again would change nothing.
      - name: notAgain
        action: FailJobSet
        onJobFailureReasons: [PodFailurePolicy]
  replicatedJobs:
    - name: workers
      replicas: 1
      template:
        spec:
          parallelism: $nodes
          completions: $nodes
          completionMode: Indexed
          backoffLimit: 0
          podFailurePolicy:
            rules:
              - action: FailJob
                onExitCodes: {containerName: train, operator: In, values: [1, 2]}
          template:
            spec:
              restartPolicy: Never
              terminationGracePeriodSeconds: $grace
              nodeSelector:
                cloud.google.com/gke-accelerator: $accelerator
              tolerations:
                - {key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}
              volumes:
                - name: shared
                  persistentVolumeClaim: {claimName: $volume}
                - name: local # of the node
                  emptyDir: {}
                - name: memory # that GPUs of a node exchange through
                  emptyDir: {medium: Memory}
              initContainers:
                - name: copy
                  image: $image
                  command: [cp, -r, /shared/$data, /local/data]
                  volumeMounts:
                    - {name: shared, mountPath: /shared}
                    - {name: local, mountPath: /local}
              containers:
                - name: train
                  image: $image
                  env:
                    - {name: JAX_COMPILATION_CACHE_DIR, value: /shared/$run.xla}
                  command: # exec, so that SIGTERM reaches the process
                    - bash
                    - -c
                    - >-
                      exec thyrojax train $options
                      --data /local/data --workdir /shared/$run --grace-seconds $((grace - 3))
                      --coordinator $name-workers-0-0.$name:55527
                      --num-processes $nodes --process-id \$JOB_COMPLETION_INDEX --connect-seconds 1800
                  resources:
                    limits: {nvidia.com/gpu: $gpus}
                  volumeMounts:
                    - {name: shared, mountPath: /shared}
                    - {name: local, mountPath: /local}
                    - {name: memory, mountPath: /dev/shm}
YAML
