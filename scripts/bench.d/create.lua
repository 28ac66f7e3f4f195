-- Creates payment orders: the next shop each time, a price and a number that no other order has.
-- wrk … -- <file of API keys, one a line> <first number> [mean pause in ms]

dofile((debug.getinfo(1, "S").source:match("^@(.*/)") or "") .. "load.lua")

function init(arguments)
  keys = {}
  for line in io.lines(arguments[1]) do keys[#keys + 1] = line end
  -- Every thread has numbers of its own.
  number = tonumber(arguments[2]) + place * 10000000
  pause = tonumber(arguments[3] or 0)
  math.randomseed(number)
end

-- Of any length up to twice the mean: connections that all pause alike send in volleys, as customers never do.
function delay()
  return math.floor(math.random() * 2 * pause)
end

function request()
  number = number + 1
  local headers = {
    ["Authorization"] = "Bearer " .. keys[number % #keys + 1],
    ["Content-Type"] = "application/json",
    ["Idempotency-Key"] = string.format("bench-%.0f", number),
  }
  local body = string.format(
    '{"amount":"%.0f.%02.0f","currency":"USDC","blockchain":"base","order_info":"{\\"product\\":\\"Premium Plan\\"}","nonce":%.0f}',
    math.floor(number / 100), number % 100, number)
  return wrk.format("POST", "/api/payment-orders/", headers, body)
end
