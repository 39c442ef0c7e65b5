"""The policies of the bookstore as an early article shows them, in the API versions of its day.

Users have such files; they must go on working, letter by letter: an apex with a dot in it, headers
as a list of maps, comments where sources were.
"""

SPLIT_V1 = """\
apiVersion: split.smi-spec.io/v1alpha2
kind: TrafficSplit
metadata:
  name: bookstore-split
  namespace: bookstore
spec:
  service: bookstore.bookstore # <root-service>.<namespace>
  backends:
  - service: bookstore-v1
    weight: 100
"""

SPLIT_V2 = """\
apiVersion: split.smi-spec.io/v1alpha2
kind: TrafficSplit
metadata:
  name: bookstore-split
  namespace: bookstore
spec:
  service: bookstore.bookstore # <root-service>.<namespace>
  backends:
  - service: bookstore-v1
    weight: 0
  - service: bookstore-v2
    weight: 100
"""

_TARGET = """\
kind: TrafficTarget
apiVersion: access.smi-spec.io/v1alpha2
metadata:
  name: bookstore-v1
  namespace: bookstore
spec:
  destination:
    kind: ServiceAccount
    name: bookstore-v1
    namespace: bookstore
  rules:
  - kind: HTTPRouteGroup
    name: bookstore-service-routes
    matches:
    - buy-a-book
    - books-bought
  sources:
  - kind: ServiceAccount
    name: bookbuyer
    namespace: bookbuyer
"""

TARGET_WITHOUT_THIEF = (
    _TARGET
    + """\
  #- kind: ServiceAccount
    #name: bookthief
    #namespace: bookthief
"""
)

TARGET_WITH_THIEF = (
    _TARGET
    + """\
  - kind: ServiceAccount
    name: bookthief
    namespace: bookthief
"""
)

ROUTES = """\
apiVersion: specs.smi-spec.io/v1alpha3
kind: HTTPRouteGroup
metadata:
  name: bookstore-service-routes
  namespace: bookstore
spec:
  matches:
  - name: books-bought
    pathRegex: /books-bought
    methods:
    - GET
    headers:
    - host: "bookstore.bookstore"
    - "user-agent": ".*-http-client/*.*"
    - "client-app": "bookbuyer"
  - name: buy-a-book
    pathRegex: ".*a-book.*new"
    methods:
    - GET
    headers:
    - host: "bookstore.bookstore"
"""
