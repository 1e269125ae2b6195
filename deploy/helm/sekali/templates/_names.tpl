{{- define "sekali.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-{{ .Chart.Name }}{{ end }}
{{- end }}

{{- define "sekali.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "sekali.labels" -}}
{{ include "sekali.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "sekali.image" -}}
{{ .Values.image.repository }}{{ with .Values.image.digest }}@{{ . }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- /* The port of probes and metrics. */ -}}
{{- define "sekali.opsPort" -}}
{{ ternary "ops" "http" .Values.ops.enabled }}
{{- end }}

{{- define "sekali.opsScheme" -}}
{{ if and .Values.tls.secretName (not .Values.ops.enabled) }}https{{ else }}http{{ end }}
{{- end }}

{{- define "sekali.probe" -}}
httpGet:
  path: {{ .path }}
  port: {{ include "sekali.opsPort" .root }}
  scheme: {{ include "sekali.opsScheme" .root | upper }}
{{- end }}
