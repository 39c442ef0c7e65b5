"""Field numbers of the Kubernetes API in protobuf, the second half: N to W.

One line per message: ``Name: number field type, …``; no type means a string. The notation and the
reason for the table are in ``protobuf``.

Invariants: a number, once given, never changes its meaning: Kubernetes promises that, so the table
only grows.
Source: the wire format of Kubernetes 1.32, as its own clients speak it.
"""

TABLE = """
NonResourceAttributes: 1 path, 2 verb
NonResourceRule: 1 verbs [str], 2 nonResourceURLs [str]
ObjectFieldSelector: 1 apiVersion, 2 fieldPath
ObjectMeta: 1 name, 2 generateName, 3 namespace, 4 selfLink, 5 uid, 6 resourceVersion, 7 generation
  int, 8 creationTimestamp time, 9 deletionTimestamp time, 10 deletionGracePeriodSeconds int, 11
  labels {str}, 12 annotations {str}, 13 ownerReferences [OwnerReference], 14 finalizers [str], 17
  managedFields [ManagedFieldsEntry]
ObjectReference: 1 kind, 2 namespace, 3 name, 4 uid, 5 apiVersion, 6 resourceVersion, 7 fieldPath
OwnerReference: 1 kind, 3 name, 4 uid, 5 apiVersion, 6 controller bool, 7 blockOwnerDeletion bool
PersistentVolumeClaim: 1 metadata ObjectMeta, 2 spec PersistentVolumeClaimSpec, 3 status
  PersistentVolumeClaimStatus
PersistentVolumeClaimCondition: 1 type, 2 status, 3 lastProbeTime time, 4 lastTransitionTime time, 5
  reason, 6 message
PersistentVolumeClaimSpec: 1 accessModes [str], 2 resources VolumeResourceRequirements, 3
  volumeName, 4 selector LabelSelector, 5 storageClassName, 6 volumeMode, 7 dataSource
  TypedLocalObjectReference, 8 dataSourceRef TypedObjectReference, 9 volumeAttributesClassName
PersistentVolumeClaimStatus: 1 phase, 2 accessModes [str], 3 capacity {quantity}, 4 conditions
  [PersistentVolumeClaimCondition], 5 allocatedResources {quantity}, 7 allocatedResourceStatuses
  {str}, 8 currentVolumeAttributesClassName, 9 modifyVolumeStatus ModifyVolumeStatus
PersistentVolumeClaimTemplate: 1 metadata ObjectMeta, 2 spec PersistentVolumeClaimSpec
PersistentVolumeClaimVolumeSource: 1 claimName, 2 readOnly bool
PhotonPersistentDiskVolumeSource: 1 pdID, 2 fsType
Pod: 1 metadata ObjectMeta, 2 spec PodSpec, 3 status PodStatus
PodAffinity: 1 requiredDuringSchedulingIgnoredDuringExecution [PodAffinityTerm], 2
  preferredDuringSchedulingIgnoredDuringExecution [WeightedPodAffinityTerm]
PodAffinityTerm: 1 labelSelector LabelSelector, 2 namespaces [str], 3 topologyKey, 4
  namespaceSelector LabelSelector, 5 matchLabelKeys [str], 6 mismatchLabelKeys [str]
PodAntiAffinity: 1 requiredDuringSchedulingIgnoredDuringExecution [PodAffinityTerm], 2
  preferredDuringSchedulingIgnoredDuringExecution [WeightedPodAffinityTerm]
PodCondition: 1 type, 2 status, 3 lastProbeTime time, 4 lastTransitionTime time, 5 reason, 6 message
PodDNSConfig: 1 nameservers [str], 2 searches [str], 3 options [PodDNSConfigOption]
PodDNSConfigOption: 1 name, 2 value
PodDisruptionBudget: 1 metadata ObjectMeta, 2 spec PodDisruptionBudgetSpec, 3 status
  PodDisruptionBudgetStatus
PodDisruptionBudgetSpec: 1 minAvailable intstr, 2 selector LabelSelector, 3 maxUnavailable intstr, 4
  unhealthyPodEvictionPolicy
PodDisruptionBudgetStatus: 1 observedGeneration int, 2 disruptedPods {time}, 3 disruptionsAllowed
  int, 4 currentHealthy int, 5 desiredHealthy int, 6 expectedPods int, 7 conditions [Condition]
PodFailurePolicy: 1 rules [PodFailurePolicyRule]
PodFailurePolicyOnExitCodesRequirement: 1 containerName, 2 operator, 3 values [int]
PodFailurePolicyOnPodConditionsPattern: 1 type, 2 status
PodFailurePolicyRule: 1 action, 2 onExitCodes PodFailurePolicyOnExitCodesRequirement, 3
  onPodConditions [PodFailurePolicyOnPodConditionsPattern]
PodIP: 1 ip
PodOS: 1 name
PodReadinessGate: 1 conditionType
PodResourceClaim: 1 name, 3 resourceClaimName, 4 resourceClaimTemplateName
PodResourceClaimStatus: 1 name, 2 resourceClaimName
PodSchedulingGate: 1 name
PodSecurityContext: 1 seLinuxOptions SELinuxOptions, 2 runAsUser int, 3 runAsNonRoot bool, 4
  supplementalGroups [int], 5 fsGroup int, 6 runAsGroup int, 7 sysctls [Sysctl], 8 windowsOptions
  WindowsSecurityContextOptions, 9 fsGroupChangePolicy, 10 seccompProfile SeccompProfile, 11
  appArmorProfile AppArmorProfile, 12 supplementalGroupsPolicy, 13 seLinuxChangePolicy
PodSpec: 1 volumes [Volume], 2 containers [Container], 3 restartPolicy, 4
  terminationGracePeriodSeconds int, 5 activeDeadlineSeconds int, 6 dnsPolicy, 7 nodeSelector {str},
  8 serviceAccountName, 9 serviceAccount, 10 nodeName, 11 hostNetwork bool, 12 hostPID bool, 13
  hostIPC bool, 14 securityContext PodSecurityContext, 15 imagePullSecrets [LocalObjectReference],
  16 hostname, 17 subdomain, 18 affinity Affinity, 19 schedulerName, 20 initContainers [Container],
  21 automountServiceAccountToken bool, 22 tolerations [Toleration], 23 hostAliases [HostAlias], 24
  priorityClassName, 25 priority int, 26 dnsConfig PodDNSConfig, 27 shareProcessNamespace bool, 28
  readinessGates [PodReadinessGate], 29 runtimeClassName, 30 enableServiceLinks bool, 31
  preemptionPolicy, 32 overhead {quantity}, 33 topologySpreadConstraints [TopologySpreadConstraint],
  34 ephemeralContainers [EphemeralContainer], 35 setHostnameAsFQDN bool, 36 os PodOS, 37 hostUsers
  bool, 38 schedulingGates [PodSchedulingGate], 39 resourceClaims [PodResourceClaim], 40 resources
  ResourceRequirements
PodStatus: 1 phase, 2 conditions [PodCondition], 3 message, 4 reason, 5 hostIP, 6 podIP, 7 startTime
  time, 8 containerStatuses [ContainerStatus], 9 qosClass, 10 initContainerStatuses
  [ContainerStatus], 11 nominatedNodeName, 12 podIPs [PodIP], 13 ephemeralContainerStatuses
  [ContainerStatus], 14 resize, 15 resourceClaimStatuses [PodResourceClaimStatus], 16 hostIPs
  [HostIP]
PodTemplateSpec: 1 metadata ObjectMeta, 2 spec PodSpec
PolicyRule: 1 verbs [str], 2 apiGroups [str], 3 resources [str], 4 resourceNames [str], 5
  nonResourceURLs [str]
PortStatus: 1 port int, 2 protocol, 3 error
PortworxVolumeSource: 1 volumeID, 2 fsType, 3 readOnly bool
Preconditions: 1 uid, 2 resourceVersion
PreferredSchedulingTerm: 1 weight int, 2 preference NodeSelectorTerm
PriorityClass: 1 metadata ObjectMeta, 2 value int, 3 globalDefault bool, 4 description, 5
  preemptionPolicy
Probe: 1 ~ ProbeHandler, 2 initialDelaySeconds int, 3 timeoutSeconds int, 4 periodSeconds int, 5
  successThreshold int, 6 failureThreshold int, 7 terminationGracePeriodSeconds int
ProbeHandler: 1 exec ExecAction, 2 httpGet HTTPGetAction, 3 tcpSocket TCPSocketAction, 4 grpc
  GRPCAction
ProjectedVolumeSource: 1 sources [VolumeProjection], 2 defaultMode int
QuobyteVolumeSource: 1 registry, 2 volume, 3 readOnly bool, 4 user, 5 group, 6 tenant
RBDVolumeSource: 1 monitors [str], 2 image, 3 fsType, 4 pool, 5 user, 6 keyring, 7 secretRef
  LocalObjectReference, 8 readOnly bool
ReplicaSet: 1 metadata ObjectMeta, 2 spec ReplicaSetSpec, 3 status ReplicaSetStatus
ReplicaSetCondition: 1 type, 2 status, 3 lastTransitionTime time, 4 reason, 5 message
ReplicaSetSpec: 1 replicas int, 2 selector LabelSelector, 3 template PodTemplateSpec, 4
  minReadySeconds int
ReplicaSetStatus: 1 replicas int, 2 fullyLabeledReplicas int, 3 observedGeneration int, 4
  readyReplicas int, 5 availableReplicas int, 6 conditions [ReplicaSetCondition]
ResourceAttributes: 1 namespace, 2 verb, 3 group, 4 version, 5 resource, 6 subresource, 7 name, 8
  fieldSelector FieldSelectorAttributes, 9 labelSelector LabelSelectorAttributes
ResourceClaim: 1 name, 2 request
ResourceFieldSelector: 1 containerName, 2 resource, 3 divisor quantity
ResourceHealth: 1 resourceID, 2 health
ResourceQuota: 1 metadata ObjectMeta, 2 spec ResourceQuotaSpec, 3 status ResourceQuotaStatus
ResourceQuotaSpec: 1 hard {quantity}, 2 scopes [str], 3 scopeSelector ScopeSelector
ResourceQuotaStatus: 1 hard {quantity}, 2 used {quantity}
ResourceRequirements: 1 limits {quantity}, 2 requests {quantity}, 3 claims [ResourceClaim]
ResourceRule: 1 verbs [str], 2 apiGroups [str], 3 resources [str], 4 resourceNames [str]
ResourceStatus: 1 name, 2 resources [ResourceHealth]
Role: 1 metadata ObjectMeta, 2 rules [PolicyRule]
RoleBinding: 1 metadata ObjectMeta, 2 subjects [Subject], 3 roleRef RoleRef
RoleRef: 1 apiGroup, 2 kind, 3 name
RollingUpdateDaemonSet: 1 maxUnavailable intstr, 2 maxSurge intstr
RollingUpdateDeployment: 1 maxUnavailable intstr, 2 maxSurge intstr
RollingUpdateStatefulSetStrategy: 1 partition int, 2 maxUnavailable intstr
Rule: 1 apiGroups [str], 2 apiVersions [str], 3 resources [str], 4 scope
RuleWithOperations: 1 operations [str], 2 ~ Rule
SELinuxOptions: 1 user, 2 role, 3 type, 4 level
Scale: 1 metadata ObjectMeta, 2 spec ScaleSpec, 3 status ScaleStatus
ScaleIOVolumeSource: 1 gateway, 2 system, 3 secretRef LocalObjectReference, 4 sslEnabled bool, 5
  protectionDomain, 6 storagePool, 7 storageMode, 8 volumeName, 9 fsType, 10 readOnly bool
ScaleSpec: 1 replicas int
ScaleStatus: 1 replicas int, 2 selector
ScopeSelector: 1 matchExpressions [ScopedResourceSelectorRequirement]
ScopedResourceSelectorRequirement: 1 scopeName, 2 operator, 3 values [str]
SeccompProfile: 1 type, 2 localhostProfile
Secret: 1 metadata ObjectMeta, 2 data {bytes}, 3 type, 4 stringData {str}, 5 immutable bool
SecretEnvSource: 1 ~ LocalObjectReference, 2 optional bool
SecretKeySelector: 1 ~ LocalObjectReference, 2 key, 3 optional bool
SecretProjection: 1 ~ LocalObjectReference, 2 items [KeyToPath], 4 optional bool
SecretVolumeSource: 1 secretName, 2 items [KeyToPath], 3 defaultMode int, 4 optional bool
SecurityContext: 1 capabilities Capabilities, 2 privileged bool, 3 seLinuxOptions SELinuxOptions, 4
  runAsUser int, 5 runAsNonRoot bool, 6 readOnlyRootFilesystem bool, 7 allowPrivilegeEscalation
  bool, 8 runAsGroup int, 9 procMount, 10 windowsOptions WindowsSecurityContextOptions, 11
  seccompProfile SeccompProfile, 12 appArmorProfile AppArmorProfile
SelfSubjectAccessReview: 1 metadata ObjectMeta, 2 spec SelfSubjectAccessReviewSpec, 3 status
  SubjectAccessReviewStatus
SelfSubjectAccessReviewSpec: 1 resourceAttributes ResourceAttributes, 2 nonResourceAttributes
  NonResourceAttributes
SelfSubjectReview: 1 metadata ObjectMeta, 2 status SelfSubjectReviewStatus
SelfSubjectReviewStatus: 1 userInfo UserInfo
SelfSubjectRulesReview: 1 metadata ObjectMeta, 2 spec SelfSubjectRulesReviewSpec, 3 status
  SubjectRulesReviewStatus
SelfSubjectRulesReviewSpec: 1 namespace
Service: 1 metadata ObjectMeta, 2 spec ServiceSpec, 3 status ServiceStatus
ServiceAccount: 1 metadata ObjectMeta, 2 secrets [ObjectReference], 3 imagePullSecrets
  [LocalObjectReference], 4 automountServiceAccountToken bool
ServiceAccountTokenProjection: 1 audience, 2 expirationSeconds int, 3 path
ServiceBackendPort: 1 name, 2 number int
ServicePort: 1 name, 2 protocol, 3 port int, 4 targetPort intstr, 5 nodePort int, 6 appProtocol
ServiceReference: 1 namespace, 2 name, 3 path, 4 port int
ServiceSpec: 1 ports [ServicePort], 2 selector {str}, 3 clusterIP, 4 type, 5 externalIPs [str], 7
  sessionAffinity, 8 loadBalancerIP, 9 loadBalancerSourceRanges [str], 10 externalName, 11
  externalTrafficPolicy, 12 healthCheckNodePort int, 13 publishNotReadyAddresses bool, 14
  sessionAffinityConfig SessionAffinityConfig, 17 ipFamilyPolicy, 18 clusterIPs [str], 19 ipFamilies
  [str], 20 allocateLoadBalancerNodePorts bool, 21 loadBalancerClass, 22 internalTrafficPolicy, 23
  trafficDistribution
ServiceStatus: 1 loadBalancer LoadBalancerStatus, 2 conditions [Condition]
SessionAffinityConfig: 1 clientIP ClientIPConfig
SleepAction: 1 seconds int
StatefulSet: 1 metadata ObjectMeta, 2 spec StatefulSetSpec, 3 status StatefulSetStatus
StatefulSetCondition: 1 type, 2 status, 3 lastTransitionTime time, 4 reason, 5 message
StatefulSetOrdinals: 1 start int
StatefulSetPersistentVolumeClaimRetentionPolicy: 1 whenDeleted, 2 whenScaled
StatefulSetSpec: 1 replicas int, 2 selector LabelSelector, 3 template PodTemplateSpec, 4
  volumeClaimTemplates [PersistentVolumeClaim], 5 serviceName, 6 podManagementPolicy, 7
  updateStrategy StatefulSetUpdateStrategy, 8 revisionHistoryLimit int, 9 minReadySeconds int, 10
  persistentVolumeClaimRetentionPolicy StatefulSetPersistentVolumeClaimRetentionPolicy, 11 ordinals
  StatefulSetOrdinals
StatefulSetStatus: 1 observedGeneration int, 2 replicas int, 3 readyReplicas int, 4 currentReplicas
  int, 5 updatedReplicas int, 6 currentRevision, 7 updateRevision, 9 collisionCount int, 10
  conditions [StatefulSetCondition], 11 availableReplicas int
StatefulSetUpdateStrategy: 1 type, 2 rollingUpdate RollingUpdateStatefulSetStrategy
StorageOSVolumeSource: 1 volumeName, 2 volumeNamespace, 3 fsType, 4 readOnly bool, 5 secretRef
  LocalObjectReference
Subject: 1 kind, 2 apiGroup, 3 name, 4 namespace
SubjectAccessReview: 1 metadata ObjectMeta, 2 spec SubjectAccessReviewSpec, 3 status
  SubjectAccessReviewStatus
SubjectAccessReviewSpec: 1 resourceAttributes ResourceAttributes, 2 nonResourceAttributes
  NonResourceAttributes, 3 user, 4 groups [str], 5 extra {strings}, 6 uid
SubjectAccessReviewStatus: 1 allowed bool, 2 reason, 3 evaluationError, 4 denied bool
SubjectRulesReviewStatus: 1 resourceRules [ResourceRule], 2 nonResourceRules [NonResourceRule], 3
  incomplete bool, 4 evaluationError
SuccessPolicy: 1 rules [SuccessPolicyRule]
SuccessPolicyRule: 1 succeededIndexes, 2 succeededCount int
Sysctl: 1 name, 2 value
TCPSocketAction: 1 port intstr, 2 host
Taint: 1 key, 2 value, 3 effect, 4 timeAdded time
TokenRequest: 1 metadata ObjectMeta, 2 spec TokenRequestSpec, 3 status TokenRequestStatus
TokenRequestSpec: 1 audiences [str], 3 boundObjectRef BoundObjectReference, 4 expirationSeconds int
TokenRequestStatus: 1 token, 2 expirationTimestamp time
TokenReview: 1 metadata ObjectMeta, 2 spec TokenReviewSpec, 3 status TokenReviewStatus
TokenReviewSpec: 1 token, 2 audiences [str]
TokenReviewStatus: 1 authenticated bool, 2 user UserInfo, 3 error, 4 audiences [str]
Toleration: 1 key, 2 operator, 3 value, 4 effect, 5 tolerationSeconds int
TopologySpreadConstraint: 1 maxSkew int, 2 topologyKey, 3 whenUnsatisfiable, 4 labelSelector
  LabelSelector, 5 minDomains int, 6 nodeAffinityPolicy, 7 nodeTaintsPolicy, 8 matchLabelKeys [str]
TypedLocalObjectReference: 1 apiGroup, 2 kind, 3 name
TypedObjectReference: 1 apiGroup, 2 kind, 3 name, 4 namespace
UncountedTerminatedPods: 1 succeeded [str], 2 failed [str]
UserInfo: 1 username, 2 uid, 3 groups [str], 4 extra {strings}
ValidatingWebhook: 1 name, 2 clientConfig WebhookClientConfig, 3 rules [RuleWithOperations], 4
  failurePolicy, 5 namespaceSelector LabelSelector, 6 sideEffects, 7 timeoutSeconds int, 8
  admissionReviewVersions [str], 9 matchPolicy, 10 objectSelector LabelSelector, 11 matchConditions
  [MatchCondition]
ValidatingWebhookConfiguration: 1 metadata ObjectMeta, 2 webhooks [ValidatingWebhook]
Volume: 1 name, 2 ~ VolumeSource
VolumeDevice: 1 name, 2 devicePath
VolumeMount: 1 name, 2 readOnly bool, 3 mountPath, 4 subPath, 5 mountPropagation, 6 subPathExpr, 7
  recursiveReadOnly
VolumeMountStatus: 1 name, 2 mountPath, 3 readOnly bool, 4 recursiveReadOnly
VolumeProjection: 1 secret SecretProjection, 2 downwardAPI DownwardAPIProjection, 3 configMap
  ConfigMapProjection, 4 serviceAccountToken ServiceAccountTokenProjection, 5 clusterTrustBundle
  ClusterTrustBundleProjection
VolumeResourceRequirements: 1 limits {quantity}, 2 requests {quantity}
VolumeSource: 1 hostPath HostPathVolumeSource, 2 emptyDir EmptyDirVolumeSource, 3 gcePersistentDisk
  GCEPersistentDiskVolumeSource, 4 awsElasticBlockStore AWSElasticBlockStoreVolumeSource, 5 gitRepo
  GitRepoVolumeSource, 6 secret SecretVolumeSource, 7 nfs NFSVolumeSource, 8 iscsi
  ISCSIVolumeSource, 9 glusterfs GlusterfsVolumeSource, 10 persistentVolumeClaim
  PersistentVolumeClaimVolumeSource, 11 rbd RBDVolumeSource, 12 flexVolume FlexVolumeSource, 13
  cinder CinderVolumeSource, 14 cephfs CephFSVolumeSource, 15 flocker FlockerVolumeSource, 16
  downwardAPI DownwardAPIVolumeSource, 17 fc FCVolumeSource, 18 azureFile AzureFileVolumeSource, 19
  configMap ConfigMapVolumeSource, 20 vsphereVolume VsphereVirtualDiskVolumeSource, 21 quobyte
  QuobyteVolumeSource, 22 azureDisk AzureDiskVolumeSource, 23 photonPersistentDisk
  PhotonPersistentDiskVolumeSource, 24 portworxVolume PortworxVolumeSource, 25 scaleIO
  ScaleIOVolumeSource, 26 projected ProjectedVolumeSource, 27 storageos StorageOSVolumeSource, 28
  csi CSIVolumeSource, 29 ephemeral EphemeralVolumeSource, 30 image ImageVolumeSource
VsphereVirtualDiskVolumeSource: 1 volumePath, 2 fsType, 3 storagePolicyName, 4 storagePolicyID
WebhookClientConfig: 1 service ServiceReference, 2 caBundle bytes, 3 url
WeightedPodAffinityTerm: 1 weight int, 2 podAffinityTerm PodAffinityTerm
WindowsSecurityContextOptions: 1 gmsaCredentialSpecName, 2 gmsaCredentialSpec, 3 runAsUserName, 4
  hostProcess bool
"""
