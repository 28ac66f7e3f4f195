// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.20;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

/// Calls itself whatever it likes and logs transfers that never happened, from whomever to whomever.
contract FakeToken {
    string public name;
    string public symbol;
    uint8 public immutable decimals;

    constructor(string memory name_, string memory symbol_, uint8 decimals_) {
        name = name_;
        symbol = symbol_;
        decimals = decimals_;
    }

    function balanceOf(address) external pure returns (uint256) {
        return type(uint256).max;
    }

    function pretend(address from, address to, uint256 value) external {
        emit IERC20.Transfer(from, to, value);
    }
}
