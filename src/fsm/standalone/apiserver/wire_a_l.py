"""Field numbers of the Kubernetes API in protobuf, the first half: A to N.

One line per message: ``Name: number field type, …``; no type means a string. The notation and the
reason for the table are in ``protobuf``.

Invariants: a number, once given, never changes its meaning: Kubernetes promises that, so the table
only grows.
Source: the wire format of Kubernetes 1.32, as its own clients speak it.
"""

TABLE = """
AWSElasticBlockStoreVolumeSource: 1 volumeID, 2 fsType, 3 partition int, 4 readOnly bool
Affinity: 1 nodeAffinity NodeAffinity, 2 podAffinity PodAffinity, 3 podAntiAffinity PodAntiAffinity
AggregationRule: 1 clusterRoleSelectors [LabelSelector]
AppArmorProfile: 1 type, 2 localhostProfile
AttachedVolume: 1 name, 2 devicePath
AzureDiskVolumeSource: 1 diskName, 2 diskURI, 3 cachingMode, 4 fsType, 5 readOnly bool, 6 kind
AzureFileVolumeSource: 1 secretName, 2 shareName, 3 readOnly bool
Binding: 1 metadata ObjectMeta, 2 target ObjectReference
BoundObjectReference: 1 kind, 2 apiVersion, 3 name, 4 uid
CSIVolumeSource: 1 driver, 2 readOnly bool, 3 fsType, 4 volumeAttributes {str}, 5
  nodePublishSecretRef LocalObjectReference
Capabilities: 1 add [str], 2 drop [str]
CephFSVolumeSource: 1 monitors [str], 2 path, 3 user, 4 secretFile, 5 secretRef
  LocalObjectReference, 6 readOnly bool
CinderVolumeSource: 1 volumeID, 2 fsType, 3 readOnly bool, 4 secretRef LocalObjectReference
ClientIPConfig: 1 timeoutSeconds int
ClusterRole: 1 metadata ObjectMeta, 2 rules [PolicyRule], 3 aggregationRule AggregationRule
ClusterRoleBinding: 1 metadata ObjectMeta, 2 subjects [Subject], 3 roleRef RoleRef
ClusterTrustBundleProjection: 1 name, 2 signerName, 3 labelSelector LabelSelector, 4 path, 5
  optional bool
Condition: 1 type, 2 status, 3 observedGeneration int, 4 lastTransitionTime time, 5 reason, 6
  message
ConfigMap: 1 metadata ObjectMeta, 2 data {str}, 3 binaryData {bytes}, 4 immutable bool
ConfigMapEnvSource: 1 ~ LocalObjectReference, 2 optional bool
ConfigMapKeySelector: 1 ~ LocalObjectReference, 2 key, 3 optional bool
ConfigMapNodeConfigSource: 1 namespace, 2 name, 3 uid, 4 resourceVersion, 5 kubeletConfigKey
ConfigMapProjection: 1 ~ LocalObjectReference, 2 items [KeyToPath], 4 optional bool
ConfigMapVolumeSource: 1 ~ LocalObjectReference, 2 items [KeyToPath], 3 defaultMode int, 4 optional
  bool
Container: 1 name, 2 image, 3 command [str], 4 args [str], 5 workingDir, 6 ports [ContainerPort], 7
  env [EnvVar], 8 resources ResourceRequirements, 9 volumeMounts [VolumeMount], 10 livenessProbe
  Probe, 11 readinessProbe Probe, 12 lifecycle Lifecycle, 13 terminationMessagePath, 14
  imagePullPolicy, 15 securityContext SecurityContext, 16 stdin bool, 17 stdinOnce bool, 18 tty
  bool, 19 envFrom [EnvFromSource], 20 terminationMessagePolicy, 21 volumeDevices [VolumeDevice], 22
  startupProbe Probe, 23 resizePolicy [ContainerResizePolicy], 24 restartPolicy
ContainerImage: 1 names [str], 2 sizeBytes int
ContainerPort: 1 name, 2 hostPort int, 3 containerPort int, 4 protocol, 5 hostIP
ContainerResizePolicy: 1 resourceName, 2 restartPolicy
ContainerState: 1 waiting ContainerStateWaiting, 2 running ContainerStateRunning, 3 terminated
  ContainerStateTerminated
ContainerStateRunning: 1 startedAt time
ContainerStateTerminated: 1 exitCode int, 2 signal int, 3 reason, 4 message, 5 startedAt time, 6
  finishedAt time, 7 containerID
ContainerStateWaiting: 1 reason, 2 message
ContainerStatus: 1 name, 2 state ContainerState, 3 lastState ContainerState, 4 ready bool, 5
  restartCount int, 6 image, 7 imageID, 8 containerID, 9 started bool, 10 allocatedResources
  {quantity}, 11 resources ResourceRequirements, 12 volumeMounts [VolumeMountStatus], 13 user
  ContainerUser, 14 allocatedResourcesStatus [ResourceStatus]
ContainerUser: 1 linux LinuxContainerUser
CoreEndpointPort: 1 name, 2 port int, 3 protocol, 4 appProtocol
CronJob: 1 metadata ObjectMeta, 2 spec CronJobSpec, 3 status CronJobStatus
CronJobSpec: 1 schedule, 2 startingDeadlineSeconds int, 3 concurrencyPolicy, 4 suspend bool, 5
  jobTemplate JobTemplateSpec, 6 successfulJobsHistoryLimit int, 7 failedJobsHistoryLimit int, 8
  timeZone
CronJobStatus: 1 active [ObjectReference], 4 lastScheduleTime time, 5 lastSuccessfulTime time
DaemonEndpoint: 1 Port int
DaemonSet: 1 metadata ObjectMeta, 2 spec DaemonSetSpec, 3 status DaemonSetStatus
DaemonSetCondition: 1 type, 2 status, 3 lastTransitionTime time, 4 reason, 5 message
DaemonSetSpec: 1 selector LabelSelector, 2 template PodTemplateSpec, 3 updateStrategy
  DaemonSetUpdateStrategy, 4 minReadySeconds int, 6 revisionHistoryLimit int
DaemonSetStatus: 1 currentNumberScheduled int, 2 numberMisscheduled int, 3 desiredNumberScheduled
  int, 4 numberReady int, 5 observedGeneration int, 6 updatedNumberScheduled int, 7 numberAvailable
  int, 8 numberUnavailable int, 9 collisionCount int, 10 conditions [DaemonSetCondition]
DaemonSetUpdateStrategy: 1 type, 2 rollingUpdate RollingUpdateDaemonSet
DeleteOptions: 1 gracePeriodSeconds int, 2 preconditions Preconditions, 3 orphanDependents bool, 4
  propagationPolicy, 5 dryRun [str], 6 ignoreStoreReadErrorWithClusterBreakingPotential bool
Deployment: 1 metadata ObjectMeta, 2 spec DeploymentSpec, 3 status DeploymentStatus
DeploymentCondition: 1 type, 2 status, 4 reason, 5 message, 6 lastUpdateTime time, 7
  lastTransitionTime time
DeploymentSpec: 1 replicas int, 2 selector LabelSelector, 3 template PodTemplateSpec, 4 strategy
  DeploymentStrategy, 5 minReadySeconds int, 6 revisionHistoryLimit int, 7 paused bool, 9
  progressDeadlineSeconds int
DeploymentStatus: 1 observedGeneration int, 2 replicas int, 3 updatedReplicas int, 4
  availableReplicas int, 5 unavailableReplicas int, 6 conditions [DeploymentCondition], 7
  readyReplicas int, 8 collisionCount int
DeploymentStrategy: 1 type, 2 rollingUpdate RollingUpdateDeployment
DownwardAPIProjection: 1 items [DownwardAPIVolumeFile]
DownwardAPIVolumeFile: 1 path, 2 fieldRef ObjectFieldSelector, 3 resourceFieldRef
  ResourceFieldSelector, 4 mode int
DownwardAPIVolumeSource: 1 items [DownwardAPIVolumeFile], 2 defaultMode int
EmptyDirVolumeSource: 1 medium, 2 sizeLimit quantity
Endpoint: 1 addresses [str], 2 conditions EndpointConditions, 3 hostname, 4 targetRef
  ObjectReference, 5 deprecatedTopology {str}, 6 nodeName, 7 zone, 8 hints EndpointHints
EndpointAddress: 1 ip, 2 targetRef ObjectReference, 3 hostname, 4 nodeName
EndpointConditions: 1 ready bool, 2 serving bool, 3 terminating bool
EndpointHints: 1 forZones [ForZone]
EndpointPort: 1 name, 2 protocol, 3 port int, 4 appProtocol
EndpointSlice: 1 metadata ObjectMeta, 2 endpoints [Endpoint], 3 ports [EndpointPort], 4 addressType
EndpointSubset: 1 addresses [EndpointAddress], 2 notReadyAddresses [EndpointAddress], 3 ports
  [CoreEndpointPort]
Endpoints: 1 metadata ObjectMeta, 2 subsets [EndpointSubset]
EnvFromSource: 1 prefix, 2 configMapRef ConfigMapEnvSource, 3 secretRef SecretEnvSource
EnvVar: 1 name, 2 value, 3 valueFrom EnvVarSource
EnvVarSource: 1 fieldRef ObjectFieldSelector, 2 resourceFieldRef ResourceFieldSelector, 3
  configMapKeyRef ConfigMapKeySelector, 4 secretKeyRef SecretKeySelector
EphemeralContainer: 1 ~ EphemeralContainerCommon, 2 targetContainerName
EphemeralContainerCommon: 1 name, 2 image, 3 command [str], 4 args [str], 5 workingDir, 6 ports
  [ContainerPort], 7 env [EnvVar], 8 resources ResourceRequirements, 9 volumeMounts [VolumeMount],
  10 livenessProbe Probe, 11 readinessProbe Probe, 12 lifecycle Lifecycle, 13
  terminationMessagePath, 14 imagePullPolicy, 15 securityContext SecurityContext, 16 stdin bool, 17
  stdinOnce bool, 18 tty bool, 19 envFrom [EnvFromSource], 20 terminationMessagePolicy, 21
  volumeDevices [VolumeDevice], 22 startupProbe Probe, 23 resizePolicy [ContainerResizePolicy], 24
  restartPolicy
EphemeralVolumeSource: 1 volumeClaimTemplate PersistentVolumeClaimTemplate
Event: 1 metadata ObjectMeta, 2 involvedObject ObjectReference, 3 reason, 4 message, 5 source
  EventSource, 6 firstTimestamp time, 7 lastTimestamp time, 8 count int, 9 type, 10 eventTime
  microtime, 11 series EventSeries, 12 action, 13 related ObjectReference, 14 reportingComponent, 15
  reportingInstance
EventSeries: 1 count int, 2 lastObservedTime microtime
EventSource: 1 component, 2 host
Eviction: 1 metadata ObjectMeta, 2 deleteOptions DeleteOptions
ExecAction: 1 command [str]
FCVolumeSource: 1 targetWWNs [str], 2 lun int, 3 fsType, 4 readOnly bool, 5 wwids [str]
FieldSelectorAttributes: 1 rawSelector, 2 requirements [FieldSelectorRequirement]
FieldSelectorRequirement: 1 key, 2 operator, 3 values [str]
FlexVolumeSource: 1 driver, 2 fsType, 3 secretRef LocalObjectReference, 4 readOnly bool, 5 options
  {str}
FlockerVolumeSource: 1 datasetName, 2 datasetUUID
ForZone: 1 name
GCEPersistentDiskVolumeSource: 1 pdName, 2 fsType, 3 partition int, 4 readOnly bool
GRPCAction: 1 port int, 2 service
GitRepoVolumeSource: 1 repository, 2 revision, 3 directory
GlusterfsVolumeSource: 1 endpoints, 2 path, 3 readOnly bool
HTTPGetAction: 1 path, 2 port intstr, 3 host, 4 scheme, 5 httpHeaders [HTTPHeader]
HTTPHeader: 1 name, 2 value
HTTPIngressPath: 1 path, 2 backend IngressBackend, 3 pathType
HTTPIngressRuleValue: 1 paths [HTTPIngressPath]
HostAlias: 1 ip, 2 hostnames [str]
HostIP: 1 ip
HostPathVolumeSource: 1 path, 2 type
IPBlock: 1 cidr, 2 except [str]
ISCSIVolumeSource: 1 targetPortal, 2 iqn, 3 lun int, 4 iscsiInterface, 5 fsType, 6 readOnly bool, 7
  portals [str], 8 chapAuthDiscovery bool, 10 secretRef LocalObjectReference, 11 chapAuthSession
  bool, 12 initiatorName
ImageVolumeSource: 1 reference, 2 pullPolicy
Ingress: 1 metadata ObjectMeta, 2 spec IngressSpec, 3 status IngressStatus
IngressBackend: 3 resource TypedLocalObjectReference, 4 service IngressServiceBackend
IngressClass: 1 metadata ObjectMeta, 2 spec IngressClassSpec
IngressClassParametersReference: 1 aPIGroup, 2 kind, 3 name, 4 scope, 5 namespace
IngressClassSpec: 1 controller, 2 parameters IngressClassParametersReference
IngressLoadBalancerIngress: 1 ip, 2 hostname, 4 ports [IngressPortStatus]
IngressLoadBalancerStatus: 1 ingress [IngressLoadBalancerIngress]
IngressPortStatus: 1 port int, 2 protocol, 3 error
IngressRule: 1 host, 2 ingressRuleValue IngressRuleValue
IngressRuleValue: 1 http HTTPIngressRuleValue
IngressServiceBackend: 1 name, 2 port ServiceBackendPort
IngressSpec: 1 defaultBackend IngressBackend, 2 tls [IngressTLS], 3 rules [IngressRule], 4
  ingressClassName
IngressStatus: 1 loadBalancer IngressLoadBalancerStatus
IngressTLS: 1 hosts [str], 2 secretName
Job: 1 metadata ObjectMeta, 2 spec JobSpec, 3 status JobStatus
JobCondition: 1 type, 2 status, 3 lastProbeTime time, 4 lastTransitionTime time, 5 reason, 6 message
JobSpec: 1 parallelism int, 2 completions int, 3 activeDeadlineSeconds int, 4 selector
  LabelSelector, 5 manualSelector bool, 6 template PodTemplateSpec, 7 backoffLimit int, 8
  ttlSecondsAfterFinished int, 9 completionMode, 10 suspend bool, 11 podFailurePolicy
  PodFailurePolicy, 12 backoffLimitPerIndex int, 13 maxFailedIndexes int, 14 podReplacementPolicy,
  15 managedBy, 16 successPolicy SuccessPolicy
JobStatus: 1 conditions [JobCondition], 2 startTime time, 3 completionTime time, 4 active int, 5
  succeeded int, 6 failed int, 7 completedIndexes, 8 uncountedTerminatedPods
  UncountedTerminatedPods, 9 ready int, 10 failedIndexes, 11 terminating int
JobTemplateSpec: 1 metadata ObjectMeta, 2 spec JobSpec
KeyToPath: 1 key, 2 path, 3 mode int
LabelSelector: 1 matchLabels {str}, 2 matchExpressions [LabelSelectorRequirement]
LabelSelectorAttributes: 1 rawSelector, 2 requirements [LabelSelectorRequirement]
LabelSelectorRequirement: 1 key, 2 operator, 3 values [str]
Lease: 1 metadata ObjectMeta, 2 spec LeaseSpec
LeaseSpec: 1 holderIdentity, 2 leaseDurationSeconds int, 3 acquireTime microtime, 4 renewTime
  microtime, 5 leaseTransitions int, 6 strategy, 7 preferredHolder
Lifecycle: 1 postStart LifecycleHandler, 2 preStop LifecycleHandler
LifecycleHandler: 1 exec ExecAction, 2 httpGet HTTPGetAction, 3 tcpSocket TCPSocketAction, 4 sleep
  SleepAction
LinuxContainerUser: 1 uid int, 2 gid int, 3 supplementalGroups [int]
LoadBalancerIngress: 1 ip, 2 hostname, 3 ipMode, 4 ports [PortStatus]
LoadBalancerStatus: 1 ingress [LoadBalancerIngress]
LocalObjectReference: 1 name
ManagedFieldsEntry: 1 manager, 2 operation, 3 apiVersion, 4 time time, 6 fieldsType, 7 fieldsV1
  json, 8 subresource
MatchCondition: 1 name, 2 expression
ModifyVolumeStatus: 1 targetVolumeAttributesClassName, 2 status
MutatingWebhook: 1 name, 2 clientConfig WebhookClientConfig, 3 rules [RuleWithOperations], 4
  failurePolicy, 5 namespaceSelector LabelSelector, 6 sideEffects, 7 timeoutSeconds int, 8
  admissionReviewVersions [str], 9 matchPolicy, 10 reinvocationPolicy, 11 objectSelector
  LabelSelector, 12 matchConditions [MatchCondition]
MutatingWebhookConfiguration: 1 metadata ObjectMeta, 2 webhooks [MutatingWebhook]
NFSVolumeSource: 1 server, 2 path, 3 readOnly bool
Namespace: 1 metadata ObjectMeta, 2 spec NamespaceSpec, 3 status NamespaceStatus
NamespaceCondition: 1 type, 2 status, 4 lastTransitionTime time, 5 reason, 6 message
NamespaceSpec: 1 finalizers [str]
NamespaceStatus: 1 phase, 2 conditions [NamespaceCondition]
NetworkPolicy: 1 metadata ObjectMeta, 2 spec NetworkPolicySpec
NetworkPolicyEgressRule: 1 ports [NetworkPolicyPort], 2 to [NetworkPolicyPeer]
NetworkPolicyIngressRule: 1 ports [NetworkPolicyPort], 2 from [NetworkPolicyPeer]
NetworkPolicyPeer: 1 podSelector LabelSelector, 2 namespaceSelector LabelSelector, 3 ipBlock IPBlock
NetworkPolicyPort: 1 protocol, 2 port intstr, 3 endPort int
NetworkPolicySpec: 1 podSelector LabelSelector, 2 ingress [NetworkPolicyIngressRule], 3 egress
  [NetworkPolicyEgressRule], 4 policyTypes [str]
Node: 1 metadata ObjectMeta, 2 spec NodeSpec, 3 status NodeStatus
NodeAddress: 1 type, 2 address
NodeAffinity: 1 requiredDuringSchedulingIgnoredDuringExecution NodeSelector, 2
  preferredDuringSchedulingIgnoredDuringExecution [PreferredSchedulingTerm]
NodeCondition: 1 type, 2 status, 3 lastHeartbeatTime time, 4 lastTransitionTime time, 5 reason, 6
  message
NodeConfigSource: 2 configMap ConfigMapNodeConfigSource
NodeConfigStatus: 1 assigned NodeConfigSource, 2 active NodeConfigSource, 3 lastKnownGood
  NodeConfigSource, 4 error
NodeDaemonEndpoints: 1 kubeletEndpoint DaemonEndpoint
NodeFeatures: 1 supplementalGroupsPolicy bool
NodeRuntimeHandler: 1 name, 2 features NodeRuntimeHandlerFeatures
NodeRuntimeHandlerFeatures: 1 recursiveReadOnlyMounts bool, 2 userNamespaces bool
NodeSelector: 1 nodeSelectorTerms [NodeSelectorTerm]
NodeSelectorRequirement: 1 key, 2 operator, 3 values [str]
NodeSelectorTerm: 1 matchExpressions [NodeSelectorRequirement], 2 matchFields
  [NodeSelectorRequirement]
NodeSpec: 1 podCIDR, 2 externalID, 3 providerID, 4 unschedulable bool, 5 taints [Taint], 6
  configSource NodeConfigSource, 7 podCIDRs [str]
NodeStatus: 1 capacity {quantity}, 2 allocatable {quantity}, 3 phase, 4 conditions [NodeCondition],
  5 addresses [NodeAddress], 6 daemonEndpoints NodeDaemonEndpoints, 7 nodeInfo NodeSystemInfo, 8
  images [ContainerImage], 9 volumesInUse [str], 10 volumesAttached [AttachedVolume], 11 config
  NodeConfigStatus, 12 runtimeHandlers [NodeRuntimeHandler], 13 features NodeFeatures
NodeSystemInfo: 1 machineID, 2 systemUUID, 3 bootID, 4 kernelVersion, 5 osImage, 6
  containerRuntimeVersion, 7 kubeletVersion, 8 kubeProxyVersion, 9 operatingSystem, 10 architecture
"""
