// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

/// @dev What the token sale needs of {Settlement}.
interface ISettlement {
    function token() external view returns (IERC20);

    function deposit(bytes32 account, uint256 amount) external;
}
