-- Two creates to eight reads, over connections that stay open; at the end the answers, counted, as one line of JSON.
local ids, orders = {}, {}
local turn = 0
local threads = {}

local function lines(path, into)
  for line in io.lines(path) do into[#into + 1] = line end
end

function setup(thread)
  threads[#threads + 1] = thread
end

function init(args)
  lines(args[1], ids)
  lines(args[2], orders)
  key = { Authorization = "Bearer " .. args[3], ["Content-Type"] = "application/json" }
  good, shed, unsaid, odd = 0, 0, 0, 0
end

function request()
  turn = turn + 1
  if turn % 10 < 2 then
    return wrk.format("POST", "/v1/invoices", key, orders[turn % #orders + 1])
  end
  return wrk.format("GET", "/v1/invoices/" .. ids[turn % #ids + 1], key)
end

function response(status, headers, body)
  if status < 300 then
    good = good + 1
  elseif status ~= 503 then
    odd = odd + 1
  else
    shed = shed + 1
    if not headers["Retry-After"] and not headers["retry-after"] then unsaid = unsaid + 1 end
  end
end

function done(summary, latency, requests)
  local sums = { good = 0, shed = 0, unsaid = 0, odd = 0 }
  for _, thread in ipairs(threads) do
    for name in pairs(sums) do sums[name] = sums[name] + thread:get(name) end
  end
  print(string.format(
    '{"good": %d, "shed": %d, "unsaid": %d, "odd": %d, "broken": %d, "seconds": %f, "p50": %f, "p99": %f}',
    sums.good, sums.shed, sums.unsaid, sums.odd,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    summary.duration / 1e6, latency:percentile(50) / 1e6, latency:percentile(99) / 1e6))
end
