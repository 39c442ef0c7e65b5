// Messages of rtnetlink(7): links and addresses, from the kernel's layout to objects and back.

var attribute = new CStruct({ length: 'uint16', type: 'uint16' })
var ifinfomsg = new CStruct({
  family: 'uint8', pad: 'uint8', type: 'uint16', index: 'int32', flags: 'uint32', change: 'uint32',
})
var ifaddrmsg = new CStruct({
  family: 'uint8', prefix: 'uint8', flags: 'uint8', scope: 'uint8', index: 'uint32',
})
var nlmsgerr = new CStruct({ error: 'int32' })

export var GET_LINK = 18, GET_ADDRESS = 22, NEW_ADDRESS = 20, DELETE_ADDRESS = 21, ERROR = 2

// What tells of links and of addresses of both families: RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR.
export var GROUPS = 0x1 | 0x10 | 0x100

var REQUEST = 0x1, ACKNOWLEDGE = 0x4, CREATE = 0x400, EXCLUSIVE = 0x200, ALL = 0x300
var UP = 0x1
var AF_INET = 2, AF_INET6 = 10

function attributes(data) {
  var all = {}
  while (data.size >= attribute.size) {
    var head = attribute.decode(data.shift(attribute.size))
    var value = data.shift(head.length - attribute.size)
    // Each begins at a multiple of four bytes.
    data.shift(-head.length & 3)
    all[head.type] = value
  }
  return all
}

function encoded(type, value) {
  var data = attribute.encode({ length: attribute.size + value.size, type })
  data.push(value)
  data.push(new Data(new Array(-value.size & 3).fill(0)))
  return data
}

var text = (data) => data?.shiftWhile(byte => byte !== 0).toString()
var number = (data) => data?.toArray().reduceRight((sum, byte) => sum * 256 + byte, 0)
var ip = (data) => data && new IP(data.toArray()).toString()

// A request for all of a kind.
export function list(type) {
  var body = type === GET_LINK ? ifinfomsg.encode({}) : ifaddrmsg.encode({})
  return new Message({ type, flags: REQUEST | ALL, seq: 1 }, body)
}

// A request to give an address to a link, or to take it away. `to` is such as 10.9.9.9/32.
export function change(type, index, to) {
  var [address, prefix] = to.split('/')
  var bytes = new Data(new IP(address).toBytes())
  var family = bytes.size === 4 ? AF_INET : AF_INET6
  var body = ifaddrmsg.encode({ family, prefix: Number(prefix ?? bytes.size * 8), index })
  // IFA_LOCAL, IFA_ADDRESS
  body.push(encoded(2, bytes)).push(encoded(1, bytes))
  var flags = REQUEST | ACKNOWLEDGE | (type === NEW_ADDRESS ? CREATE | EXCLUSIVE : 0)
  return new Message({ type, flags, seq: 1 }, body)
}

// What a message tells of a link or an address; nothing where it tells of something else.
export function read(message) {
  var { type } = message.head
  var data = message.body
  if (type === 16 || type === 17) {
    var link = ifinfomsg.decode(data.shift(ifinfomsg.size))
    var of = attributes(data)
    return {
      kind: 'link', gone: type === 17, index: link.index,
      link: { name: text(of[3]), mtu: number(of[4]), up: Boolean(link.flags & UP) },
    }
  }
  if (type === NEW_ADDRESS || type === DELETE_ADDRESS) {
    var info = ifaddrmsg.decode(data.shift(ifaddrmsg.size))
    var its = attributes(data)
    return {
      kind: 'address', gone: type === DELETE_ADDRESS, index: info.index,
      address: `${ip(its[2] ?? its[1])}/${info.prefix}`,
    }
  }
}

// How a request ended: 0, or the number of what went wrong (errno(3)); nothing where the message does not say.
export function outcome(message) {
  if (message.head.type === ERROR) return -nlmsgerr.decode(message.body.shift(4)).error
}
