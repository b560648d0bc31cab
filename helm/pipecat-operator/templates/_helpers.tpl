{{- /* What every name begins with. Releases "pipecat" and "pipecat-operator" both give pipecat-operator, pipecat-gateway. */}}
{{- define "pipecat.base" -}}
{{- $name := trimSuffix "-operator" .Release.Name -}}
{{- contains "pipecat" $name | ternary $name (printf "%s-pipecat" $name) | trunc 46 | trimSuffix "-" -}}
{{- end }}

{{- define "pipecat.operator" -}}{{ include "pipecat.base" . }}-operator{{- end }}
{{- define "pipecat.gateway" -}}{{ include "pipecat.base" . }}-gateway{{- end }}

{{- /* Of a list: root, component. */}}
{{- define "pipecat.selector" -}}
app.kubernetes.io/name: {{ (index . 0).Chart.Name }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "pipecat.labels" -}}
{{- include "pipecat.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
app.kubernetes.io/part-of: pipecat
helm.sh/chart: {{ (index . 0).Chart.Name }}-{{ (index . 0).Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* Of a list: root, component, name. */}}
{{- define "pipecat.metadata" -}}
name: {{ index . 2 }}
namespace: {{ (index . 0).Release.Namespace | quote }}
labels:
  {{- include "pipecat.labels" . | nindent 2 }}
{{- end }}

{{- define "pipecat.image" -}}
{{- with .Values.image -}}
{{ with .registry }}{{ . }}/{{ end }}{{ .repository }}
{{- if or .tag (not .digest) }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- with .digest }}@{{ . }}{{ end }}
{{- end -}}
{{- end }}

{{- /* The part of a pod's spec that is the same for operator, gateway and test: nothing that PSA restricted forbids. */}}
{{- define "pipecat.pod" -}}
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "pipecat.container" -}}
image: {{ include "pipecat.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- /* Where pods go. Of a list: root, component, its values. */}}
{{- define "pipecat.placement" -}}
{{- with (index . 2).priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with (index . 2).nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with (index . 2).tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with (index . 2).affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $selector := include "pipecat.selector" . | fromYaml }}
{{- with (index . 2).topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range . }}
  - {{ toYaml . | nindent 4 | trim }}
    labelSelector:
      matchLabels:
        {{- toYaml $selector | nindent 8 }}
    {{- /* Of the pods of one rollout, or the last one's would count. */}}
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end }}
{{- end }}

{{- define "pipecat.probes" -}}
livenessProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
readinessProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 5
  timeoutSeconds: 5
{{- end }}

{{- /* The namespaces that this chart knows to hold sessions, as {"names": [...]}. */}}
{{- define "pipecat.sessionNamespaces" -}}
{{- $names := concat .Values.watchNamespaces .Values.networkPolicy.bots.namespaces -}}
{{- if .Values.gateway.enabled }}{{ $names = append $names .Values.gateway.namespace }}{{ end -}}
{{- range .Values.bots }}{{ $names = append $names .namespace }}{{ end -}}
{{- dict "names" ($names | uniq | sortAlpha) | toJson -}}
{{- end }}
