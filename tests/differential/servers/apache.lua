-- Answers with the target; hands target and body to the log, in hexadecimal.
local function hex(text)
    return (text:gsub(".", function(byte) return string.format("%02x", byte:byte()) end))
end

function handle(r)
    local framed = r.headers_in["content-length"] or r.headers_in["transfer-encoding"]
    local body = framed and r:requestbody() or ""
    if framed and body == "" and r.headers_in["content-length"] ~= "0" then
        return 400
    end
    r.notes["u"] = hex(r.unparsed_uri)
    r.notes["b"] = hex(body)
    r.content_type = "text/plain"
    r:write(r.unparsed_uri)
    return apache2.OK
end
