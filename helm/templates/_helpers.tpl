{{/* What a component is, whatever the values say: its command, what it consumes, whom it speaks to. */}}
{{- define "mailstream.components" -}}
source:
  args: [source]
  partitioned: true
  elasticsearch: true
  google: true
extract:
  args: [worker, extract]
  partitioned: true
  group: mailstream-extract
  topics: [mail.changes.v1, mail.backfill.v1]
  elasticsearch: true
  google: true
  attachments: true
slow:
  args: [worker, slow]
  partitioned: true
  group: mailstream-slow
  topics: [mail.deferred.v1]
  elasticsearch: true
  google: true
  attachments: true
index:
  args: [worker, index]
  partitioned: true
  group: mailstream-index
  topics: [{{ .Values.settings.documents_topic }}]
  elasticsearch: true
push:
  args: [push]
  portSetting: push_port
  google: true
serve:
  args: [serve]
  portSetting: serve_port
  elasticsearch: true
{{- end }}

{{/* Which components hold a secret or a file; those that are not named here are held by all, jobs included. */}}
{{- define "mailstream.holders" -}}
credentials_key: [source, extract, slow, index]
credentials_key_file: [source, extract, slow, index]
http_scanner_token: [extract, slow]
clamd_config: [extract, slow]
google_credentials_file: [push]
elasticsearch_api_key: [source, extract, slow, index, serve, mapping]
elasticsearch_api_key_file: [source, extract, slow, index, serve, mapping]
elasticsearch_ca_file: [source, extract, slow, index, serve, mapping]
{{- end }}

{{- define "mailstream.name" -}}
{{ default .Release.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "mailstream.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end }}
{{- end }}

{{/* Labels that never change: a Deployment's selector. (dict "root" . "component" "extract") */}}
{{- define "mailstream.selector" -}}
app.kubernetes.io/name: mailstream
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "mailstream.labels" -}}
{{ include "mailstream.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{/* The settings of a component: those of all, then its own, then what the chart itself provides. */}}
{{- define "mailstream.settings" -}}
{{- $own := dig .component "settings" dict .root.Values.components -}}
{{- $provided := dict -}}
{{- if .root.Values.clamd.enabled -}}
{{- $address := printf "%s-clamd:3310" (include "mailstream.name" .root) -}}
{{- $provided = dict "scanner" "clamd" "clamd_address" $address -}}
{{- end -}}
{{- mergeOverwrite (deepCopy .root.Values.settings) $own $provided | toJson -}}
{{- end }}

{{/* A value as an environment variable has it: JSON would write large numbers as 2.5e+09. */}}
{{- define "mailstream.text" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) }}{{ printf "%.0f" . }}{{ else }}{{ toString . }}{{ end -}}
{{- end }}

{{- define "mailstream.env" -}}
{{- $root := .root }}
{{- $component := .component }}
{{- $holders := include "mailstream.holders" . | fromYaml }}
{{- range $name, $value := include "mailstream.settings" . | fromJson }}
{{- if not (or (kindIs "invalid" $value) (eq (toString $value) "")) }}
- name: {{ upper $name }}
  value: {{ include "mailstream.text" $value | quote }}
{{- end }}
{{- end }}
{{- range $name, $from := $root.Values.secrets }}
{{- if and $from.secret (has $component (default (list $component) (get $holders $name))) }}
- name: {{ upper $name }}
  valueFrom:
    secretKeyRef:
      name: {{ $from.secret }}
      key: {{ default $name $from.key }}
{{- end }}
{{- end }}
{{- range $name, $from := include "mailstream.files" . | fromJson }}
- name: {{ upper $name }}
  value: /run/settings/{{ $name }}/{{ default $name $from.key }}
{{- end }}
{{- /* What libraries might want to write goes to memory that ends with the container. */}}
- name: HOME
  value: /tmp
{{- end }}

{{/* The files that a component holds: {setting: {secret or configMap, key}}. */}}
{{- define "mailstream.files" -}}
{{- $component := .component }}
{{- $holders := include "mailstream.holders" . | fromYaml }}
{{- $files := deepCopy .root.Values.files }}
{{- if .root.Values.clamd.enabled }}
{{- $_ := set $files "clamd_config" (dict "configMap" (printf "%s-clamd" (include "mailstream.name" .root)) "key" "clamd.conf") }}
{{- end }}
{{- $held := dict }}
{{- range $name, $from := $files }}
{{- if and (or $from.secret $from.configMap) (has $component (default (list $component) (get $holders $name))) }}
{{- $_ := set $held $name $from }}
{{- end }}
{{- end }}
{{- $held | toJson }}
{{- end }}

{{- define "mailstream.fileMounts" -}}
{{- range $name, $_ := include "mailstream.files" . | fromJson }}
- name: {{ $name | replace "_" "-" }}
  mountPath: /run/settings/{{ $name }}
  readOnly: true
{{- end }}
{{- end }}

{{- define "mailstream.fileVolumes" -}}
{{- range $name, $from := include "mailstream.files" . | fromJson }}
- name: {{ $name | replace "_" "-" }}
{{- if $from.configMap }}
  configMap:
    name: {{ $from.configMap }}
{{- else }}
  secret:
    secretName: {{ $from.secret }}
    defaultMode: 0440
{{- end }}
{{- end }}
{{- end }}

{{- define "mailstream.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .Values.userId | int }}
runAsGroup: {{ .Values.userId | int }}
fsGroup: {{ .Values.userId | int }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "mailstream.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* The port of an address: host:port, or a URL. (dict "address" A "default" 9092) */}}
{{- define "mailstream.port" -}}
{{- $port := regexFind ":[0-9]+(/|,|$)" .address | regexFind "[0-9]+" -}}
{{- if $port }}{{ $port }}{{ else if hasPrefix "https://" .address }}443{{ else }}{{ .default }}{{ end -}}
{{- end }}
